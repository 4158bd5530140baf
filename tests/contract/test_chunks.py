"""Chunks on a real broker: what a crash, a rebalance and full lanes do to them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.kafka import admin
from adapters.kafka.consumer import read_topic
from runtime.kafka_settings import Kafka
from schemas.ids import new_id
from streams.deliveries import CHUNK
from tests.checkout import ROOT
from tests.servers import until

pytestmark = pytest.mark.slow

KEYS = 40


@dataclass
class Running:
    """A worker in a process of its own, and the places that it has handled, with the time of each."""

    process: Process
    handled: list[tuple[float, tuple[str, int, int]]] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    said: list[str] = field(default_factory=list)

    async def follow(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            match line.decode().split():
                case ["handled", at, topic, partition, offset]:
                    self.handled.append((float(at), (topic, int(partition), int(offset))))
                case ["full"]:
                    self.full.set()
                case _:
                    self.said.append(line.decode())

    def offsets(self, topic: str) -> list[int]:
        return [offset for _, (found, _, offset) in self.handled if found == topic]


@dataclass
class Site:
    """A stage of its own: its topics, its group and its workers."""

    kafka: Kafka
    name: str
    folder: Path
    running: list[Running] = field(default_factory=list)
    following: list[asyncio.Task[None]] = field(default_factory=list)

    async def write(self, topic: str, count: int, begin: int = 0) -> None:
        """Append records; those of a key are on one partition, and their values count up."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, linger_ms=5) as producer:
            sent = [
                await producer.send(topic, b"%d" % number, b"key-%d" % (number % KEYS))
                for number in range(begin, begin + count)
            ]
            await asyncio.gather(*sent)

    async def start(self, *options: str) -> Running:
        argv = [self.name, self.kafka.bootstrap, str(self.folder / str(len(self.running))), *options]
        module = ["-m", "tests.contract.chunk_stage"]
        process = await asyncio.create_subprocess_exec(sys.executable, *module, *argv, cwd=ROOT, stdout=PIPE)
        started = Running(process)
        self.running.append(started)
        self.following.append(asyncio.create_task(started.follow()))
        return started

    async def committed(self, topic: str) -> dict[int, int]:
        return (await admin.committed(self.kafka, [self.name], topic))[self.name]

    def handled(self) -> list[tuple[str, int, int]]:
        """All places that were handled, in the order of time."""
        return [place for _, place in sorted(each for run in self.running for each in run.handled)]


Open = Callable[[int], Awaitable[Site]]


@pytest.fixture
async def open_site(kafka: Kafka, tmp_path: Path) -> AsyncIterator[Open]:
    made: list[Site] = []

    async def opened(partitions: int) -> Site:
        name = f"chunks-{new_id()[-8:]}"
        client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await client.start()
        names = (f"{name}.a", f"{name}.b", f"{name}.retry", f"{name}.dlq")
        await client.create_topics([NewTopic(each, partitions, 1) for each in names])
        await client.close()
        made.append(Site(kafka, name, tmp_path))
        return made[-1]

    yield opened
    for site in made:
        for run in site.running:
            if run.process.returncode is None:
                run.process.kill()
            await run.process.wait()
        await asyncio.gather(*site.following)


async def test_a_crash_in_the_middle_of_a_chunk_repeats_the_chunk_and_loses_nothing(open_site: Open):
    site = await open_site(1)
    topic, held, count = f"{site.name}.a", CHUNK + 44, 3 * CHUNK
    await site.write(topic, count)
    first = await site.start("--hold", f"{topic}/0/{held}")
    behind = {offset for offset in range(held, count) if (offset - held) % KEYS == 0}  # of the same key

    async def is_at_rest() -> bool:
        return set(first.offsets(topic)) == set(range(count)) - behind and bool(await site.committed(topic))

    await until(is_at_rest)
    first.process.kill()
    await first.process.wait()
    [begin] = (await site.committed(topic)).values()
    assert 0 < begin <= held
    second = await site.start()

    async def is_done() -> bool:
        return await site.committed(topic) == {0: count}

    await until(is_done)
    again = list(dict.fromkeys(second.offsets(topic)))
    assert sorted(again) == list(range(begin, count))
    for key in range(KEYS):
        mine = [offset for offset in again if offset % KEYS == key]
        assert mine == sorted(mine)


async def test_a_rebalance_in_the_middle_of_chunks_loses_and_reorders_nothing(open_site: Open):
    site = await open_site(4)
    topic, count = f"{site.name}.a", 40 * CHUNK
    await site.write(topic, count)
    first = await site.start("--pause-s", "0.02")
    await until(is_under_way(first))
    second = await site.start("--pause-s", "0.02")
    await until(is_under_way(second))
    sampled, sampled_at = await site.committed(topic), time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(first.process.wait(), 25) == 0

    async def is_done() -> bool:
        return sum((await site.committed(topic)).values()) == count

    await until(is_done)
    before = {place for run in site.running for at, place in run.handled if at <= sampled_at}
    assert {(topic, partition, offset) for partition, end in sampled.items() for offset in range(end)} <= before
    places = list(dict.fromkeys(site.handled()))
    assert len(places) == count
    keys = {(topic, each.partition, each.offset): each.key for each in await read_topic(site.kafka, topic)}
    for key in set(keys.values()):
        mine = [place for place in places if keys[place] == key]
        assert mine == sorted(mine)


def is_under_way(run: Running) -> Callable[[], Awaitable[bool]]:
    async def has_handled_some() -> bool:
        return len(run.handled) > 20

    return has_handled_some


async def test_full_lanes_hold_back_their_own_topics_alone_and_lose_nothing(open_site: Open):
    site = await open_site(3)
    free, held, count = f"{site.name}.a", f"{site.name}.b", 200 * CHUNK
    await site.write(held, count)
    run = await site.start("--hold", held)
    await asyncio.wait_for(run.full.wait(), 60)
    await site.write(free, 500)

    async def is_free() -> bool:
        return len(run.offsets(free)) == 500

    await until(is_free)
    assert run.offsets(held) == []
    assert await site.committed(held) == {}
    run.process.send_signal(signal.SIGUSR1)

    async def is_done() -> bool:
        return sum((await site.committed(held)).values()) == count

    await until(is_done)
    places = [place for place in site.handled() if place[0] == held]
    assert len(places) == len(set(places)) == count
