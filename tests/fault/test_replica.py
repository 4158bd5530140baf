"""Rows 58 to 61: a replica lags, is away, is promoted, or cancels a read; nobody who reads notices."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from adapters.postgres.audit import PostgresAudit
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import Connection, open_pool
from adapters.postgres.replica import ReadBounds, open_replica, rows_of
from domain.replicas import Doubt
from schemas.ids import new_id
from tests import make
from tests.fault.replicated import Node, Pair, World, running_pair
from tests.servers import start
from verify.fault_proxy import open_proxy

USUAL = ReadBounds()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with running_pair() as made:
        yield made


@pytest.fixture
async def open_world(pair: Pair):
    async with AsyncExitStack() as stack:

        async def opened(bounds: ReadBounds = USUAL, login: str = "ingest") -> World:
            nodes = []
            for _ in range(2):
                pool = await stack.enter_async_context(open_pool(pair.primary.logins[login], size=4))
                open_ = open_replica(pair.replica.logins[login], pool, bounds=bounds)
                found = await stack.enter_async_context(open_)
                assert found is not None
                nodes.append(Node(pool, found))
            room = new_id()
            writer = await stack.enter_async_context(open_pool(pair.primary.logins["ingest"], size=1))
            await PostgresConversations(writer).create(room, None, "alice", ["bob"])
            for node in nodes:
                await node.reads_from("replica")
            return World(pair, nodes, room)

        yield opened


async def test_row_58_whoever_has_written_reads_it_on_every_node_while_the_replay_stops_and_goes(open_world):
    world: World = await open_world()
    seen: dict[str, int] = {"replica": 0, "primary": 0}

    async def stop_and_go() -> None:
        for _ in range(4):
            with world.pair.standing_still():
                for node in world.nodes:
                    await node.reads_from("primary")
            for node in world.nodes:
                await node.reads_from("replica")

    going = asyncio.create_task(stop_and_go())
    number = 0
    while not going.done():
        number += 1
        sent = await world.say(f"message {number}")
        for node in world.nodes:
            assert await world.newest(node) == sent
            seen[await node.source()] += 1
    await going
    assert min(seen.values()) > 10, seen


async def test_row_58_a_read_waits_a_moment_for_the_replay_and_no_longer(open_world):
    world: World = await open_world()
    [node, _] = world.nodes
    with world.pair.standing_still():
        sent = await world.say("unseen by the replica")
        began = time.monotonic()
        assert await world.newest(node) == sent
        assert time.monotonic() - began < 1
        assert node.replica.gate.reason is Doubt.LAGGING
        began = time.monotonic()
        for _ in range(50):
            assert await world.newest(node) == sent
        assert time.monotonic() - began < 2, "the replica is not asked again at each read"
    await node.reads_from("replica")
    assert await world.newest(node) == sent


async def test_row_58_whoever_is_removed_reads_nothing_from_then_on(open_world):
    world: World = await open_world()
    await world.say("secret words")
    for node in world.nodes:
        conversations = PostgresConversations(node.pool, node.replica)
        message_id = await world.newest(node)
        assert await node.messages.one(message_id, "bob") is not None
        with world.pair.standing_still():
            await conversations.remove(world.room, "bob", "alice")
            assert await node.messages.one(message_id, "bob") is None
            assert await conversations.get(world.room, "bob") is None
            assert world.room not in [line.conversation_id for line in await conversations.mine("bob", None, 50)]
            await conversations.add(world.room, "bob", "alice")
            assert await conversations.get(world.room, "bob") is not None
        await node.reads_from("replica")


async def test_row_58_replays_of_gateways_have_all_that_is_asked_for(open_world):
    world: World = await open_world(login="gateway")
    [node, _] = world.nodes
    history = PostgresHistory(node.pool, node.replica)
    async with open_pool(world.pair.primary.logins["ingest"], size=1) as pool:
        intake = PostgresIntake(pool)
        for paused in (False, True):
            with ExitStack() as stack:
                if paused:
                    stack.enter_context(world.pair.standing_still())
                drafts = [make.draft(str(n), conversationId=world.room) for n in range(20)]
                head = (await intake.accept(drafts))[-1].message.seq
                pages = await asyncio.gather(*(history.changes(world.room, after, head, 500) for after in range(8)))
                assert [[c.seq for c in page] for page in pages] == [list(range(n + 1, head + 1)) for n in range(8)]


async def test_row_58_the_audit_judges_what_is_stored_now(open_world):
    world: World = await open_world(bounds=ReadBounds(catch_up_s=0.2, answer_s=None), login="audit")
    [node, _] = world.nodes
    audit, since = PostgresAudit(node.pool, replica=node.replica), datetime.now(UTC) - timedelta(hours=1)
    async with open_pool(world.pair.primary.logins["ingest"], size=1) as pool:
        for paused in (False, True):
            with ExitStack() as stack:
                if paused:
                    stack.enter_context(world.pair.standing_still())
                [outcome] = await PostgresIntake(pool).accept([make.draft("judged", conversationId=world.room)])
                facts = await audit.facts(await audit.spans(since, [world.room]))
                assert facts.rows[-1].message_id == outcome.message.message_id
                known = await audit.known("message.created", [outcome.message.message_id])
                assert known == {outcome.message.message_id: (world.room, outcome.message.seq)}


async def test_row_59_a_frozen_replica_costs_each_node_one_second_once_and_is_read_again_when_it_is_back(open_world):
    world: World = await open_world()
    sent = await world.say("answered all the same")
    with world.pair.frozen():
        for node in world.nodes:
            began = time.monotonic()
            pages = await asyncio.gather(*(world.newest(node) for _ in range(20)))
            assert pages == [sent] * 20
            assert time.monotonic() - began < 2
            assert not node.replica.gate.is_open
            began = time.monotonic()
            for _ in range(50):
                assert await world.newest(node) == sent
            assert time.monotonic() - began < 2, "an absent replica is not tried at each read"
    for node in world.nodes:
        await node.reads_from("replica")


async def test_row_59_a_killed_replica_is_noticed_by_nobody_and_read_again_after_its_restart(open_world):
    world: World = await open_world()
    pair = world.pair
    sent = await world.say("answered all the same")
    reading = asyncio.Event()

    async def read_on(node: Node) -> None:
        while not reading.is_set():
            assert await world.newest(node) == sent
            await asyncio.sleep(0.005)

    readers = [asyncio.create_task(read_on(node)) for node in world.nodes for _ in range(3)]
    pair.signal(signal.SIGKILL)
    await asyncio.to_thread(pair.process.wait)
    for node in world.nodes:
        await node.reads_from("primary")
    pair.process = await start(pair.child)
    for node in world.nodes:
        await node.reads_from("replica")
    reading.set()
    await asyncio.gather(*readers)


async def test_row_60_another_server_at_the_same_address_is_read_once_it_is_a_replica(open_world):
    """As after a failover, where a name leads to the new standby."""
    world: World = await open_world()
    [node, _] = world.nodes
    async with open_proxy(world.pair.primary.port) as proxy:
        dsn = psycopg.conninfo.make_conninfo(world.pair.replica.logins["ingest"], port=proxy.port)
        async with open_replica(dsn, node.pool) as replica:
            assert replica is not None and replica.gate.reason is Doubt.PROMOTED
            there = Node(node.pool, replica)
            assert await there.source() == "primary"
            proxy.upstream = world.pair.server.port
            await there.reads_from("replica")


async def test_row_61_a_read_that_the_replay_cancels_is_answered_by_the_primary(open_world):
    world: World = await open_world(bounds=ReadBounds(answer_s=20))
    [node, _] = world.nodes
    world.pair.on_primary("CREATE TABLE IF NOT EXISTS in_the_way (n int)")
    world.pair.on_primary("GRANT SELECT ON in_the_way TO PUBLIC")
    world.pair.on_primary("INSERT INTO in_the_way VALUES (1)")

    async def long_on_a_replica(conn: Connection) -> list[tuple]:
        statement = (
            "SELECT n, pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_sleep(20)::text END FROM in_the_way"
        )
        return await rows_of("-- the read in the way\n" + statement, {}, conn)

    async with asyncio.timeout(20):
        reading = asyncio.create_task(node.replica.read(long_on_a_replica))
        running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '-- the read in the way%' AND state = 'active'"
        while not world.pair.on_replica(running):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        world.pair.on_primary("ALTER TABLE in_the_way ADD COLUMN m int")
        [(n, is_standby, _)] = await reading
    assert (n, is_standby) == (1, False)
    assert node.replica.gate.is_open, "it is the read that failed, not the replica"


async def test_row_60_a_promoted_replica_answers_nobody_though_it_takes_writes(open_world):
    """Last: the pair is none after it."""
    world: World = await open_world()
    sent = await world.say("on both")
    world.pair.on_replica("SELECT pg_promote()")
    foreign = make.draft("on the promoted one alone", conversationId=world.room)
    async with open_pool(world.pair.replica.logins["ingest"], size=1) as pool:
        await PostgresIntake(pool).accept([foreign])
    for node in world.nodes:
        assert await world.newest(node) == sent
        assert node.replica.gate.reason is Doubt.PROMOTED
    later = await world.say("on the primary")
    for node in world.nodes:
        assert await world.newest(node) == later
