"""The outbox in PostgreSQL: nothing that is owed is overlooked, and no query passes over all that was published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from adapters.postgres import change_log
from adapters.postgres.conninfo import parameters
from adapters.postgres.outbox import PostgresOutbox, announce, oldest_unpublished, open_outbox, owed, republish
from adapters.postgres.pool import Connection, Pool
from adapters.postgres.statements import load
from domain.changes import OutboxEntry
from domain.log_position import Position
from schemas.events import ReceiptRecorded
from schemas.ids import new_id
from tests import make
from tests.outboxes import empty_outbox, owe

UNPUBLISHED = load("outbox")["unpublished"]


@pytest.fixture(autouse=True)
async def empty(pool: Pool) -> None:
    """Each test begins with an outbox that owes nothing."""
    await empty_outbox(pool)


@pytest.fixture
async def outbox(pg_dsn: str) -> AsyncIterator[PostgresOutbox]:
    async with open_outbox(pg_dsn) as opened:
        opened.floors.raise_after = 1
        await opened.claim()
        yield opened


@pytest.fixture
async def writer(pg_dsn: str) -> AsyncIterator[Connection]:
    """A session that commits when it is told to."""
    async with await psycopg.AsyncConnection.connect(pg_dsn, **{**parameters(pg_dsn), "autocommit": False}) as conn:
        yield conn


async def publish(outbox: PostgresOutbox, limit: int = 500) -> list[tuple[str, int]]:
    """Publish a batch; return the places of its rows."""
    rows = await outbox.unpublished(limit)
    await outbox.mark(rows, {})
    return [(row.conversation_id, row.seq) for row in rows]


async def floors(pool: Pool) -> int:
    """The highest floor of what is owed for the first time."""
    async with pool.connection() as conn:
        found = await conn.execute("SELECT coalesce(max(position), 0) FROM outbox_floors WHERE NOT again")
        [(position,)] = await found.fetchall()
        return int(position)


async def pages_read(outbox: PostgresOutbox) -> int:
    """The pages that the relay's query reads when nothing is owed."""
    cursor = psycopg.AsyncClientCursor(outbox.conn)
    await cursor.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + UNPUBLISHED, {"shards": [*range(16)], "limit": 500}
    )
    [([explained],)] = await cursor.fetchall()
    return int(explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"])


@pytest.mark.parametrize("rising", [True, False], ids=["with floors", "without floors"])
async def test_beside_an_open_snapshot_the_query_reads_as_little_as_ever(pool: Pool, pg_dsn: str, outbox, rising: bool):
    rooms, seqs = [new_id() for _ in range(8)], defaultdict[str, int](int)
    outbox.floors.raise_after = 200 if rising else 10**9
    dump = await psycopg.AsyncConnection.connect(pg_dsn)
    await dump.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    async with dump:
        await dump.execute("SELECT count(*) FROM outbox")
        before = await pages_read(outbox)
        async with pool.connection() as conn:
            for n in range(20):
                for room in rooms:
                    first = seqs[room]
                    seqs[room] += 25
                    await owe(conn, room, *range(first, first + 25))
                assert len(await publish(outbox)) == 200, n
        await outbox.unpublished(1)
        grown = await pages_read(outbox) - before
        await dump.execute("SELECT count(*) FROM outbox")
    assert grown < 60 if rising else grown > 200, grown  # of 4,000 rows, a dozen to a page


async def test_a_commit_that_comes_late_is_published(pool: Pool, outbox, writer):
    late, room = new_id(), new_id()
    await owe(writer, late, 1)  # its position is drawn, its commit comes last
    async with pool.connection() as conn:
        for seq in range(1, 30):
            await owe(conn, room, seq)
            assert await publish(outbox) == [(room, seq)]
    assert await floors(pool) <= 1
    await writer.commit()
    assert await publish(outbox) == [(late, 1)]
    outbox.floors._look_at = 0.0  # half a second later
    async with pool.connection() as conn:
        await owe(conn, room, 30)
    assert await publish(outbox) == [(room, 30)]
    outbox.floors._look_at = 0.0
    assert await publish(outbox) == []
    assert await floors(pool) > 29


async def test_a_transaction_that_is_rolled_back_holds_no_floor_for_good(pool: Pool, outbox, writer):
    room = new_id()
    await owe(writer, new_id(), 1)
    async with pool.connection() as conn:
        await owe(conn, room, 1)
        await publish(outbox)
        assert await publish(outbox) == []
        assert await floors(pool) <= 1
        await writer.rollback()
        outbox.floors._look_at = 0.0
        assert await publish(outbox) == []
    assert await floors(pool) == 3


async def test_what_is_owed_again_or_instead_lies_beyond_every_floor(pool: Pool, outbox):
    room = new_id()
    receipt = ReceiptRecorded(conversation_id=room, user_id="bob", device="d", delivered_seq=1, read_seq=1, at=make.AT)
    async with pool.connection() as conn:
        await owe(conn, room, *range(1, 6))
        assert await change_log.owe_instead(conn, OutboxEntry(0, receipt, "bob 1"), None)
        assert len(await publish(outbox)) == 6
        assert await publish(outbox) == []
        assert await floors(pool) == 7
        later = ReceiptRecorded(
            conversation_id=room, user_id="bob", device="d", delivered_seq=2, read_seq=2, at=make.AT
        )
        assert await change_log.owe_instead(conn, OutboxEntry(0, later, "bob 1"), receipt.event_id)
        await change_log.owe_again(conn, [OutboxEntry(3, make.created(conversation_id=room, seq=3))])
    assert await owed(pool, datetime.now(UTC), room) == 2
    assert await oldest_unpublished(pool) is not None
    assert await publish(outbox) == [(room, 0), (room, 3)]
    assert await oldest_unpublished(pool) is None


async def test_after_a_loss_what_is_fresh_comes_before_what_is_retained(pool: Pool, pg_dsn: str, outbox):
    """Retained rows of a conversation come before its fresh ones, and conversations without fresh ones come last."""
    quiet, lively, new = sorted(new_id() for _ in range(3))  # ids of new conversations are the highest
    async with pool.connection() as conn:
        for room in (quiet, lively):
            await owe(conn, room, *range(1, 201))
        await outbox.compare(Position(cluster_id="one", replication=1, ends={}))
        await publish(outbox)
        loss = await outbox.compare(Position(cluster_id="two", replication=1, ends={}))
        assert loss is not None and loss.rows == 400
        await owe(conn, lively, 201)
        await owe(conn, new, 1, 2)
    batch = await publish(outbox, 150)
    assert batch == [(new, 1), (new, 2), *((lively, seq) for seq in range(1, 149))]
    assert await publish(outbox, 60) == [
        *((lively, seq) for seq in range(149, 202)),
        *((quiet, s) for s in range(1, 8)),
    ]
    async with open_outbox(pg_dsn) as other:  # whoever owns the shards by then
        await outbox.conn.close()
        await other.claim()
        await other.compare(Position(cluster_id="two", replication=1, ends={}))
        assert await publish(other) == [(quiet, seq) for seq in range(8, 201)]


async def test_what_is_owed_again_twice_is_published_from_its_lowest_seq_on(pool: Pool, outbox):
    room, since = new_id(), datetime.now(UTC) - timedelta(hours=1)
    async with pool.connection() as conn:
        await owe(conn, room, *range(1, 10))
    await publish(outbox)
    assert await republish(pool, since, room) == 9
    assert await publish(outbox, 4) == [(room, seq) for seq in range(1, 5)]
    await announce(pool)
    assert await republish(pool, since, room) == 9
    assert await publish(outbox) == [(room, seq) for seq in range(1, 10)]
    assert await publish(outbox) == []


async def test_a_small_conversation_does_not_wait_for_the_repeats_of_a_large_one(pool: Pool, outbox):
    large, small = sorted(new_id() for _ in range(2))
    async with pool.connection() as conn:
        await owe(conn, large, *range(1, 400))
        await owe(conn, small, 1)
        await publish(outbox)
        await republish(pool, datetime.now(UTC) - timedelta(hours=1), None)
        await owe(conn, large, 400)
        await owe(conn, small, 2)
    assert (await publish(outbox, 100))[:2] == [(small, 1), (small, 2)]
