"""Pub/sub: the twins, Valkey alone and a Redis Cluster keep the same promises."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from adapters.memory.redis import MemoryBus
from adapters.redis.client import connect
from adapters.redis.pipeline import Arguments, PipelinedConnection
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import target
from domain.errors import Unavailable
from domain.presence import Entry
from domain.pubsub import Fanout, Hint
from schemas.ids import new_id
from tests.contract.conftest import Node, listen, real_url


@pytest.fixture(params=["valkey", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """A real server, or a real cluster."""
    return real_url(request)


@pytest.fixture(params=["memory", "valkey", "cluster"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Fanout, Node, Node]]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            fanout = MemoryBus()
            both = [fanout.subscriptions(), fanout.subscriptions()]
        else:
            url = real_url(request)
            fanout = await stack.enter_async_context(open_fanout(url))
            both = [await stack.enter_async_context(open_subscriptions(url, f"test-{new_id()}")) for _ in "ab"]
        pairs = [await listen(subscriptions) for subscriptions in both]
        yield fanout, pairs[0][0], pairs[1][0]
        for _, task in pairs:
            task.cancel()


async def test_what_is_published_after_the_confirmation_arrives_at_every_node(world):
    fanout, one, two = world
    channel = new_id()
    await asyncio.gather(one.pubsub.subscribe(channel), two.pubsub.subscribe(channel))
    await fanout.publish([(channel, b"1"), ("elsewhere", b"x"), (channel, b"2")])
    for node in (one, two):
        assert [await node.next(), await node.next()] == [Hint(channel, b"1"), Hint(channel, b"2")]


async def test_several_channels_are_confirmed_together(world):
    fanout, one, _ = world
    first, second = new_id(), new_id()
    await one.pubsub.subscribe(second)
    await one.pubsub.subscribe(first, second)
    await fanout.publish([(first, b"1"), (second, b"2")])
    assert {await one.next(), await one.next()} == {Hint(first, b"1"), Hint(second, b"2")}
    assert one.rest() == []


async def test_nothing_arrives_that_is_not_subscribed_any_more(world):
    fanout, one, _ = world
    gone, kept = new_id(), new_id()
    await one.pubsub.subscribe(gone)
    await one.pubsub.subscribe(kept)
    await one.pubsub.unsubscribe(gone)
    await fanout.publish([(gone, b"1"), (kept, b"2")])
    assert await one.next() == Hint(kept, b"2")


async def test_a_channel_that_is_left_and_wanted_again_all_the_time_is_subscribed_once_or_not_at_all(world):
    fanout, one, two = world
    channels = [f"conversation:{new_id()}:events" for _ in range(8)]
    wanted = dict.fromkeys(channels, 0)

    async def come_and_go(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            channel = rng.choice(channels)
            wanted[channel] += 1
            if wanted[channel] == 1:
                await one.pubsub.subscribe(channel)
            await asyncio.sleep(rng.choice((0, 0, 0.001)))
            wanted[channel] -= 1
            if wanted[channel] == 0:
                await one.pubsub.unsubscribe(channel)

    staying = channels[:4]
    await asyncio.gather(*(come_and_go(seed) for seed in range(12)))
    await asyncio.gather(*(one.pubsub.subscribe(channel) for channel in staying))
    await two.pubsub.subscribe(channels[0])
    await fanout.publish([(channel, b"x") for channel in reversed(channels)])
    heard = []
    while len(heard) < len(staying):
        hint = await one.next()
        if not hint.gap:
            heard.append(hint)
    assert sorted(heard, key=lambda hint: hint.channel) == sorted(
        (Hint(channel, b"x") for channel in staying), key=lambda hint: hint.channel
    )
    assert await two.next() == Hint(channels[0], b"x")
    assert all(hint.gap for hint in one.rest())


async def test_a_cut_connection_comes_back_and_says_that_there_was_a_gap(url: str):
    await there_is_a_gap(url)


async def there_is_a_gap(url: str) -> None:
    channel = f"conversation:{new_id()}:messages"
    async with open_fanout(url) as fanout, open_subscriptions(url, "test-gap") as subscriptions:
        node, task = await listen(subscriptions)
        await subscriptions.subscribe(channel)
        for address in target(url).nodes:
            admin = connect(target(url), address)
            await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await admin.aclose()
        assert await node.next() == Hint(channel, b"", gap=True)
        await subscriptions.subscribe(channel)
        await fanout.publish([(channel, b"after")])
        while (hint := await node.next()).gap:
            pass
        assert hint == Hint(channel, b"after")
        task.cancel()


def test_the_same_under_uvloop(url: str):
    """The gateway runs on it; its transports are of another kind."""
    uvloop.run(there_is_a_gap(url))


NOBODY = ["redis://127.0.0.1:1/0", "redis+cluster://:x@127.0.0.1:1,127.0.0.1:2"]


@pytest.mark.parametrize("url", NOBODY)
async def test_without_redis_everything_is_unavailable_and_nothing_hangs(url: str):
    async with open_fanout(url) as fanout, open_subscriptions(url, "n") as subscriptions:
        _, task = await listen(subscriptions)
        with pytest.raises(Unavailable):
            await fanout.publish([("c", b"x")])
        async with asyncio.timeout(4):
            with pytest.raises(Unavailable):
                await subscriptions.subscribe("c")
        task.cancel()
    async with open_registry(url, node="n", lease_s=1) as registry:
        with pytest.raises(Unavailable):
            await registry.connected(["bob"])


async def test_a_server_that_takes_connections_and_says_nothing_holds_nobody_up_for_long():
    """Else who comes waits for all who came before, each of whom finds it out anew."""
    silent = await asyncio.start_server(lambda _, __: asyncio.Event().wait(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        async with open_registry(f"redis://127.0.0.1:{port}/0", node="n", lease_s=1) as registry:
            async with asyncio.timeout(4):
                asked = await asyncio.gather(
                    *(registry.connected([f"u{n}"]) for n in range(50)), return_exceptions=True
                )
                assert {type(answer) for answer in asked} == {Unavailable}
            async with asyncio.timeout(0.5):
                with pytest.raises(Unavailable):
                    await registry.connected(["later"])
    finally:
        silent.close()


async def test_a_connection_is_registered_in_one_round_trip_on_a_server_alone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    sent: list[int] = []
    execute = PipelinedConnection.execute

    async def counted(self: PipelinedConnection, commands: Sequence[Arguments]) -> list[Any]:
        sent.append(len(commands))
        return await execute(self, commands)

    async with open_registry(redis_url, node=new_id(), lease_s=30) as registry:
        user = new_id()
        one, two = Entry(new_id(), user, "-", 0), Entry(new_id(), user, "-", 0)
        await registry.connected([user])
        monkeypatch.setattr(PipelinedConnection, "execute", counted)
        assert [await registry.register(one), await registry.register(two)] == [True, False]
        assert await registry.connected([user]) == {user}
        assert len(sent) == 3, "its own connections it knows"
        assert [await registry.unregister(each.connection_id, user, 1) for each in (one, two)] == [False, True]
        assert len(sent) == 5


def test_a_connection_that_dies_under_a_question_is_an_outage_under_uvloop_too(redis_url: str):
    async def register_on_a_dying_connection() -> None:
        async with open_registry(redis_url, node="n1", lease_s=30) as registry:
            await registry.register(Entry(new_id(), "alice", "-", 0))
            asking = asyncio.create_task(registry.register(Entry(new_id(), "alice", "-", 0)))
            while not any(open_._waiting for open_ in registry.client._connections.values()):  # noqa: ASYNC110 - no answer yet
                await asyncio.sleep(0)
            for open_ in registry.client._connections.values():
                open_.connection.close()
            with pytest.raises(Unavailable):
                await asking
            await registry.register(Entry(new_id(), "alice", "-", 0))

    uvloop.run(register_on_a_dying_connection())
