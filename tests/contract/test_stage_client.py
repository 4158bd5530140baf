"""The client of a stage on a real broker: a rebalance, in which it commits, and how it leaves its group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP

from runtime.kafka_settings import Kafka
from schemas.ids import new_id
from streams.faust_app import build_app
from streams.faust_client import StageClient
from streams.stage import Stage

COUNT = 10


async def nothing(_: Any) -> list[Any]:
    return []


class Consumer:
    """The consumer of Faust, as far as its client calls it: it commits what it has read before a partition goes."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.client = StageClient(self, loop=asyncio.get_running_loop())
        self.assigned = asyncio.Queue[tuple[set[TP], int]]()
        self.reached: dict[TP, int] = {}
        self.kept: list[bool] = []

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        if revoked and self.reached:
            self.kept.append(await self.client.commit(self.reached))

    async def on_partitions_assigned(self, assigned: set[TP], generation: int) -> None:
        self.assigned.put_nowait((assigned, generation))

    async def given(self, partitions: int, within_s: float = 30) -> tuple[set[TP], int]:
        """The partitions and the generation, once there are so many."""
        async with asyncio.timeout(within_s):
            while True:
                assigned, generation = await self.assigned.get()
                if len(assigned) == partitions:
                    return assigned, generation


Open = Callable[[], Awaitable[Consumer]]


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """A topic of two partitions, with some records in each."""
    name = f"client-{new_id()[-8:]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in range(2 * COUNT):
            await producer.send_and_wait(name, b"%d" % number, partition=number % 2)
    return name


@pytest.fixture
async def open_consumer(kafka: Kafka, topic: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Open one more member of the group of the same name."""
    made: list[Consumer] = []

    async def opened() -> Consumer:
        consumer = Consumer(build_app(Stage(topic, (), (), nothing), kafka, tmp_path, object()))
        made.append(consumer)
        await consumer.client.start()
        await consumer.client.subscribe([topic])
        return consumer

    yield opened
    for consumer in made:
        await consumer.client.stop()


async def fetched(consumer: Consumer, assigned: set[TP]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    async with asyncio.timeout(20):
        while len(found) < COUNT * len(assigned):
            records = await consumer.client.getmany(assigned, 1.0)
            found += [(tp.partition, each.offset) for tp, some in records.items() for each in some]
    return sorted(found)


async def test_a_member_commits_in_a_rebalance_and_leaves_at_once(open_consumer: Open, topic: str):
    first = await open_consumer()
    both, generation = await first.given(2)
    assert both == first.client.assignment() == {TP(topic, 0), TP(topic, 1)}
    assert generation == first.app.consumer_generation_id == first.client.generation
    assert await fetched(first, both) == [(partition, offset) for partition in range(2) for offset in range(COUNT)]
    assert await first.client.highwaters(*both) == dict.fromkeys(both, COUNT)
    assert await first.client.earliest_offsets(*both) == dict.fromkeys(both, 0)

    first.reached = dict.fromkeys(both, COUNT - 1)
    second = await open_consumer()
    mine, later = await second.given(1)
    kept, _ = await first.given(1)
    assert first.kept == [True]
    assert later > generation
    assert mine | kept == both
    assert await second.client.seek_to_committed() == dict.fromkeys(mine, COUNT - 1)
    assert not await first.client.commit(dict.fromkeys(mine, 0))  # of the other
    assert [offset for _, offset in await some_of(second, mine)] == [COUNT - 1]

    await first.client.stop()
    assert (await second.given(2, within_s=5))[0] == both  # sooner than its session would have ended
    assert not first.client.crashed
    assert not second.client.crashed


async def some_of(consumer: Consumer, assigned: set[TP]) -> list[tuple[int, int]]:
    async with asyncio.timeout(20):
        while not (records := await consumer.client.getmany(assigned, 1.0)):
            pass
    return [(tp.partition, each.offset) for tp, some in records.items() for each in some]


async def test_nothing_to_read_is_an_empty_answer_after_the_time(open_consumer: Open):
    consumer = await open_consumer()
    both, _ = await consumer.given(2)
    await fetched(consumer, both)
    async with asyncio.timeout(5):
        assert await consumer.client.getmany(both, 0.1) == {}
    consumer.client.seek(TP(next(iter(both)).topic, 0), COUNT - 2)
    assert await some_of(consumer, both) == [(0, COUNT - 2), (0, COUNT - 1)]


async def test_the_broker_gathers_while_there_are_records_and_at_rest_waits_for_the_first(open_consumer: Open):
    consumer = await open_consumer()
    consumer.app.gather_s = 0.2
    both, _ = await consumer.given(2)

    def waits() -> tuple[int, bool]:
        fetcher = consumer.client._started_client()._fetcher
        return fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes > 1

    assert waits() == (1500, False)
    await fetched(consumer, both)
    assert waits() == (200, True)
    assert await consumer.client.getmany(both, 0.5) == {}
    assert waits() == (1500, False)
