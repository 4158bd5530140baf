"""Pub/sub and registry: the twins and Valkey keep the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from runtime.errors import Unavailable
from runtime.memory.redis import MemoryBus, MemoryRegistry
from runtime.ports import Fanout, Hint, Registry, Subscriptions
from runtime.redis.fanout import open_fanout, open_subscriptions
from runtime.redis.rates import open_rate_limiter
from runtime.redis.registry import open_registry
from schemas.ids import new_id


@dataclass
class Node:
    subscriptions: Subscriptions
    got: asyncio.Queue[Hint]

    async def next(self) -> Hint:
        async with asyncio.timeout(10):
            return await self.got.get()


async def listen(subscriptions: Subscriptions) -> tuple[Node, asyncio.Task[None]]:
    node = Node(subscriptions, asyncio.Queue())

    async def pump() -> None:
        async for hint in subscriptions.hints():
            node.got.put_nowait(hint)

    return node, asyncio.create_task(pump())


@pytest.fixture(params=["memory", "valkey"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Fanout, Node, Node]]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            fanout = MemoryBus()
            both = [fanout.subscriptions(), fanout.subscriptions()]
        else:
            url = request.getfixturevalue("redis_url")
            fanout = await stack.enter_async_context(open_fanout(url))
            both = [await stack.enter_async_context(open_subscriptions(url, f"test-{new_id()}")) for _ in "ab"]
        pairs = [await listen(subscriptions) for subscriptions in both]
        yield fanout, pairs[0][0], pairs[1][0]
        for _, task in pairs:
            task.cancel()


async def test_what_is_published_after_the_confirmation_arrives_at_every_node(world):
    fanout, one, two = world
    channel = new_id()
    await asyncio.gather(one.subscriptions.subscribe(channel), two.subscriptions.subscribe(channel))
    await fanout.publish([(channel, b"1"), ("elsewhere", b"x"), (channel, b"2")])
    for node in (one, two):
        assert [await node.next(), await node.next()] == [Hint(channel, b"1"), Hint(channel, b"2")]


async def test_nothing_arrives_that_is_not_subscribed_any_more(world):
    fanout, one, _ = world
    gone, kept = new_id(), new_id()
    await one.subscriptions.subscribe(gone)
    await one.subscriptions.subscribe(kept)
    await one.subscriptions.unsubscribe(gone)
    await fanout.publish([(gone, b"1"), (kept, b"2")])
    assert await one.next() == Hint(kept, b"2")


async def test_a_cut_connection_comes_back_and_says_that_there_was_a_gap(redis_url):
    async with open_fanout(redis_url) as fanout, open_subscriptions(redis_url, "test-gap") as subscriptions:
        node, task = await listen(subscriptions)
        await subscriptions.subscribe("room")
        admin = Redis.from_url(redis_url)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert (await node.next()).gap
        await subscriptions.subscribe("room")
        await fanout.publish([("room", b"after")])
        while (hint := await node.next()).gap:
            pass
        assert hint == Hint("room", b"after")
        await admin.aclose()
        task.cancel()


async def test_without_redis_everything_is_unavailable_and_nothing_hangs():
    url = "redis://127.0.0.1:1/0"
    async with open_fanout(url) as fanout, open_subscriptions(url, "n") as subscriptions:
        _, task = await listen(subscriptions)
        with pytest.raises(Unavailable):
            await fanout.publish([("c", b"x")])
        with pytest.raises(Unavailable):
            await subscriptions.subscribe("c")
        task.cancel()
    async with open_registry(url, node="n", lease_s=1) as registry:
        with pytest.raises(Unavailable):
            await registry.connected(["bob"])


@pytest.fixture(params=["memory", "valkey"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    async with open_registry(request.getfixturevalue("redis_url"), node="n1", lease_s=30) as opened:
        yield opened


async def test_a_user_is_connected_from_the_first_connection_to_the_last(registry):
    user, one, two = new_id(), new_id(), new_id()
    assert await registry.connected([user]) == frozenset()
    assert await registry.register(one, user)
    assert not await registry.register(two, user)
    assert await registry.connected([user, "nobody"]) == frozenset({user})
    assert not await registry.unregister(one, user)
    assert await registry.unregister(two, user)
    assert await registry.connected([user]) == frozenset()


async def test_typing_is_told_once_until_it_stops(registry):
    room = new_id()
    assert await registry.may_type(room, "bob")
    assert not await registry.may_type(room, "bob")
    assert await registry.may_type(room, "carol")
    await registry.stopped_typing(room, "bob")
    assert await registry.may_type(room, "bob")


async def test_a_ghost_ends_with_its_lease_and_a_renewed_one_does_not(redis_url):
    ghost, alive = new_id(), new_id()
    async with open_registry(redis_url, node="dead", lease_s=1) as dead:
        await dead.register(new_id(), ghost)
        connection = new_id()
        await dead.register(connection, alive)
        async with asyncio.timeout(10):
            while ghost in await dead.connected([ghost]):
                await dead.renew({connection: alive})
                await asyncio.sleep(0.05)
        assert await dead.connected([alive]) == frozenset({alive})


async def test_a_rate_holds_with_redis_and_without(redis_url):
    from runtime.errors import RateLimited

    for url in (redis_url, "redis://127.0.0.1:1/0"):
        async with open_rate_limiter(url) as rates:
            user = new_id()
            for _ in range(3):
                await rates.hit("messages", user, 3)
            with pytest.raises(RateLimited) as caught:
                await rates.hit("messages", user, 3)
            assert caught.value.retry_after_s > 0
            await rates.hit("messages", new_id(), 3)
            await rates.hit("other", user, 0)
