"""Pub/sub: the twins, Valkey alone and a Redis Cluster keep the same promises."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest
import uvloop
from redis.crc import key_slot

from runtime.errors import RateLimited, Unavailable
from runtime.memory.redis import MemoryBus
from runtime.ports import Entry, Fanout, Hint, Subscriptions
from runtime.redis.client import connect, target
from runtime.redis.cluster import shares
from runtime.redis.fanout import open_fanout
from runtime.redis.rates import open_rate_limiter
from runtime.redis.registry import open_registry
from runtime.redis.servers import tagged
from runtime.redis.subscriptions import open_subscriptions
from schemas.ids import new_id
from tests.contract.conftest import real_url
from tests.rediscluster import RedisCluster


@dataclass
class Node:
    subscriptions: Subscriptions
    got: asyncio.Queue[Hint]

    async def next(self) -> Hint:
        async with asyncio.timeout(10):
            return await self.got.get()

    def rest(self) -> list[Hint]:
        """What has arrived besides."""
        return [self.got.get_nowait() for _ in range(self.got.qsize())]


async def listen(subscriptions: Subscriptions) -> tuple[Node, asyncio.Task[None]]:
    node = Node(subscriptions, asyncio.Queue())

    async def pump() -> None:
        async for hint in subscriptions.hints():
            node.got.put_nowait(hint)

    return node, asyncio.create_task(pump())


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
                await one.subscriptions.subscribe(channel)
            await asyncio.sleep(rng.choice((0, 0, 0.001)))
            wanted[channel] -= 1
            if wanted[channel] == 0:
                await one.subscriptions.unsubscribe(channel)

    staying = channels[:4]
    await asyncio.gather(*(come_and_go(seed) for seed in range(12)))
    await asyncio.gather(*(one.subscriptions.subscribe(channel) for channel in staying))
    await two.subscriptions.subscribe(channels[0])
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


@pytest.fixture(params=["valkey", "cluster", *NOBODY])
def url_or_nobody(request: pytest.FixtureRequest) -> str:
    return request.param if request.param in NOBODY else real_url(request)


async def test_a_rate_holds_with_redis_and_without(url_or_nobody: str):
    async with asyncio.timeout(10):
        async with open_rate_limiter(url_or_nobody) as rates:
            user = new_id()
            for _ in range(3):
                await rates.hit("messages", user, 3)
            with pytest.raises(RateLimited) as caught:
                await rates.hit("messages", user, 3)
            assert caught.value.retry_after_s > 0
            await rates.hit("messages", new_id(), 3)
            await rates.hit("other", user, 0)


# what only a cluster can do


def channels_by_node(cluster: RedisCluster) -> dict[int, str]:
    """For each node's port a channel that belongs there."""
    found: dict[int, str] = {}
    owners = [
        node.port for node, share in zip(cluster.nodes, shares(3), strict=True) for _ in range(share[0], share[1] + 1)
    ]
    while len(found) < 3:
        channel = f"conversation:{new_id()}:messages"
        found[owners[key_slot(tagged(channel).encode())]] = channel
    return found


async def test_a_killed_node_is_silent_the_others_go_on_and_it_comes_back_with_a_gap(redis_cluster: RedisCluster):
    url = redis_cluster.url
    async with open_fanout(url) as fanout, open_subscriptions(url, "test-killed") as subscriptions:
        node, task = await listen(subscriptions)
        channels = channels_by_node(redis_cluster)
        for channel in channels.values():
            await subscriptions.subscribe(channel)
        (port, silent), *others = channels.items()
        with frozen(redis_cluster, port):  # it neither answers nor refuses
            for _, channel in others:
                async with asyncio.timeout(5):
                    with suppress(Unavailable):
                        await fanout.publish([(silent, b"lost"), (channel, b"goes on")])
                    assert await node.next() == Hint(channel, b"goes on")
        redis_cluster.kill(port)
        while (hint := await node.next()) != Hint(silent, b"", gap=True):
            assert hint.gap or hint.data == b"lost"
        async with asyncio.timeout(10):
            while True:
                with suppress(Unavailable):
                    await fanout.publish([(silent, b"back")])
                    break
        while (hint := await node.next()).gap:
            pass
        assert hint == Hint(silent, b"back")
        task.cancel()


@contextmanager
def frozen(cluster: RedisCluster, port: int) -> Iterator[None]:
    pid = cluster.pid(port)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_channel_moves_with_its_slot(redis_cluster: RedisCluster):
    url = redis_cluster.url
    async with open_fanout(url) as fanout, open_subscriptions(url, "test-moved") as subscriptions:
        node, task = await listen(subscriptions)
        (port, channel), (other, _), *_ = channels_by_node(redis_cluster).items()
        await subscriptions.subscribe(channel)
        await fanout.publish([(channel, b"before")])
        assert await node.next() == Hint(channel, b"before")
        slot = key_slot(tagged(channel).encode())
        for place in (other, port):  # and home again, for the other tests
            await move(redis_cluster, slot, place)
            assert await node.next() == Hint(channel, b"", gap=True)
            await fanout.publish([(channel, b"after")])
            while (hint := await node.next()).gap:
                pass
            assert hint == Hint(channel, b"after")
        task.cancel()


async def move(cluster: RedisCluster, slot: int, port: int) -> None:
    """As an operator does it who moves an empty slot."""
    nodes = [connect(target(cluster.url), address) for address in target(cluster.url).nodes]
    new = next(node for node, address in zip(nodes, target(cluster.url).nodes, strict=True) if address.port == port)
    name = (await new.execute_command("CLUSTER", "MYID")).decode()
    for node in (new, *(node for node in nodes if node is not new)):
        await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
    for node in nodes:
        await node.aclose()


def test_a_connection_that_died_unnoticed_is_an_outage_under_uvloop_too(redis_url: str):
    async def register_on_a_dead_connection() -> None:
        async with open_registry(redis_url, node="n1", lease_s=30) as registry:
            await registry.register(Entry(new_id(), "alice", "-", 0))
            for client in registry.servers._clients.values():
                for connection in client.connection_pool._available_connections:
                    connection._writer.transport.abort()
            with pytest.raises(Unavailable):
                await registry.register(Entry(new_id(), "alice", "-", 0))
            await registry.register(Entry(new_id(), "alice", "-", 0))

    uvloop.run(register_on_a_dead_connection())
