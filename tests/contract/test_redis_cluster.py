"""Channels on a Redis Cluster: nodes die, slots move, a replica takes over."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from adapters.redis.client import connect
from adapters.redis.cluster_setup import shares
from adapters.redis.publisher import open_fanout
from adapters.redis.slot_client import tagged
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import Address, Target, target
from domain.errors import Unavailable
from domain.pubsub import Fanout, Hint
from schemas.ids import new_id
from stack.ports import allot
from stack.servers.data_dir import DataDir
from stack.servers.valkey import Valkey
from stack.supervisor import Supervisor
from tests.contract.conftest import Node, listen
from tests.redis_slots import move_slot
from tests.rediscluster import RedisCluster


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
            await move_slot(redis_cluster.url, slot, place)
            assert await node.next() == Hint(channel, b"", gap=True)
            await fanout.publish([(channel, b"after")])
            while (hint := await node.next()).gap:
                pass
            assert hint == Hint(channel, b"after")
        task.cancel()


async def test_slots_that_move_under_load_lose_nothing_unsaid(redis_cluster: RedisCluster):
    url = redis_cluster.url
    channels = [f"conversation:{new_id()}:messages" for _ in range(12)]
    sent: dict[str, list[int]] = {channel: [] for channel in channels}
    async with open_fanout(url) as fanout, open_subscriptions(url, "test-load") as subscriptions:
        node, task = await listen(subscriptions)
        await asyncio.gather(*(subscriptions.subscribe(channel) for channel in channels))
        done = asyncio.Event()

        async def publish() -> None:
            for number in itertools.count():
                for channel in channels:
                    with suppress(Unavailable):  # then whoever publishes knows
                        await fanout.publish([(channel, str(number).encode())])
                        sent[channel].append(number)
                await asyncio.sleep(0)
                if done.is_set():
                    return

        publishing = asyncio.create_task(publish())
        slots = {key_slot(tagged(channel).encode()) for channel in channels}
        home = {slot: port for slot in slots for port in [owner_of(redis_cluster, slot)]}
        for turn in (1, 2, 0):  # around, and home again for the other tests
            for slot, port in home.items():
                ports = sorted(other.port for other in redis_cluster.nodes)
                await move_slot(redis_cluster.url, slot, ports[(ports.index(port) + turn) % 3])
        done.set()
        await publishing
        heard = await until_all_end(fanout, node, channels)
        task.cancel()
    moved = sum(hint.gap for hints in heard.values() for hint in hints)
    assert moved >= len(channels)
    for channel, hints in heard.items():
        assert unsaid(sent[channel], hints) == [], channel


def owner_of(cluster: RedisCluster, slot: int) -> int:
    return next(node.port for node, share in zip(cluster.nodes, shares(3), strict=True) if share[0] <= slot <= share[1])


async def until_all_end(fanout: Fanout, node: Node, channels: list[str]) -> dict[str, list[Hint]]:
    """What was heard on each channel, up to a last word that is repeated until it is heard."""
    heard: dict[str, list[Hint]] = {channel: [] for channel in channels}
    open_ = set(channels)
    async with asyncio.timeout(20):
        while open_:
            with suppress(Unavailable):
                await fanout.publish([(channel, b"end") for channel in open_])
            await asyncio.sleep(0.05)
            for hint in node.rest():
                heard[hint.channel].append(hint)
                if hint.data == b"end":
                    open_.discard(hint.channel)
    return heard


def unsaid(sent: list[int], hints: list[Hint]) -> list[int]:
    """Numbers that did not arrive although no gap was told between their neighbours."""
    missing, waiting, told = [], iter(sent), False
    for hint in hints:
        if hint.gap:
            told = True
            continue
        upto = None if hint.data == b"end" else int(hint.data)
        lost = list(itertools.takewhile(lambda number, upto=upto: number != upto, waiting))
        if not told:
            missing += lost
        told = False
        if upto is None:
            break
    return missing


@pytest.mark.slow
async def test_a_replica_that_takes_over_from_a_node_that_stands_still_is_followed(tmp_path: Path):
    folder = DataDir(tmp_path / "valkeys")
    folder.prepare()
    with RedisCluster.running(folder) as cluster:
        spare, bus = allot(["valkey-4", "valkey-4-bus"], {}, {}).values()
        supervisor, stands_by = Supervisor(), Valkey(folder, spare, "valkey-4", bus)
        await supervisor.start([await stands_by.prepare()])
        try:
            port, channel = next(iter(channels_by_node(cluster).items()))
            await replicate(cluster, port, stands_by)
            async with (
                open_fanout(cluster.url) as fanout,
                open_subscriptions(cluster.url, "test-over") as subscriptions,
            ):
                node, task = await listen(subscriptions)
                await subscriptions.subscribe(channel)
                with frozen(cluster, port):
                    heard = None
                    async with asyncio.timeout(40):
                        while heard != Hint(channel, b"after"):
                            with suppress(Unavailable):
                                await fanout.publish([(channel, b"after")])
                            await asyncio.sleep(0.1)
                            heard = next((hint for hint in node.rest() if not hint.gap), None)
                task.cancel()
        finally:
            await supervisor.stop()


async def replicate(cluster: RedisCluster, port: int, spare: Valkey) -> None:
    """Make the spare node the replica of the one on this port."""
    to = target(cluster.url)
    primary, replica = connect(to, Address("127.0.0.1", port)), connect(to, Address("127.0.0.1", spare.port))
    await replica.execute_command("CONFIG", "SET", "primaryauth", to.login.password)
    bus = next(node.bus_port for node in cluster.nodes if node.port == port)
    await replica.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
    name = await primary.execute_command("CLUSTER", "MYID")
    async with asyncio.timeout(20):
        while True:
            with suppress(ResponseError):
                await replica.execute_command("CLUSTER", "REPLICATE", name)
                break
            await asyncio.sleep(0.1)
        while (await replica.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        while len({await known(to, node) for node in (*cluster.nodes, spare)}) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await primary.aclose()
    await replica.aclose()


async def known(to: Target, node: Valkey) -> int:
    """How many nodes this one knows."""
    client = connect(to, Address("127.0.0.1", node.port))
    said = (await client.execute_command("CLUSTER", "NODES")).decode()
    await client.aclose()
    return len(said.splitlines())
