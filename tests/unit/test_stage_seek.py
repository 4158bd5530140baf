"""Positions of a stage after its log has lost records: the beginning, whatever else is under way.

The real consumer without a broker: what it would ask of one is answered here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord
from faust.tables.recovery import RebalanceAgain
from faust.types import TP

from streams.deliveries import CHUNK
from streams.faust_consumer import StageConsumer

PLACE = TP("message.created", 0)
OLD = 412


class Epochs:
    """The log has lost records once, and nothing was read since."""

    def __init__(self) -> None:
        self.known = {"message.created/0": 0}

    async def current(self) -> int:
        return 1

    async def of(self, names: list[str]) -> dict[str, int]:
        await asyncio.sleep(0)
        return dict(self.known)

    async def reached(self, names: list[str], epoch: int) -> None:
        self.known = dict.fromkeys(names, epoch)


def record(offset: int) -> ConsumerRecord:
    return ConsumerRecord(*PLACE, offset, 0, 0, b"key", b"value", None, 3, 5, ())


class Consumer(StageConsumer):
    """A consumer whose broker has an offset of the earlier log: a commit that came late."""

    def __init__(self) -> None:
        self._ring, self._acked, self._acked_index = defaultdict(deque), defaultdict(list), defaultdict(set)
        self._read_offset, self._committed_offset = defaultdict(lambda: None), defaultdict(lambda: None)
        self._turns, self._buffered_partitions = asyncio.Lock(), set[TP]()
        self._commit_fut = cast("asyncio.Future[None] | None", None)
        conf = SimpleNamespace(broker_rebalance_timeout=30)
        self.app = SimpleNamespace(epochs=Epochs(), stage="status", should_stop=False, conf=conf, rebalancing_count=1)
        self.app.topics, self.app.consumer_generation_id = SimpleNamespace(_tp_index={}), 3
        self.app.topics.acks_enabled_for = lambda _: True
        self.flow_active, self._stopped, self._crashed = True, asyncio.Event(), asyncio.Event()
        self._unacked_messages, self._waiting_for_ack, self._n_acked = set[Any](), None, 0
        self._on_message_in = lambda *_: None
        self.fetched: list[int] = []
        """Offsets that the next fetch brings."""
        self.delivered: list[Any] = []
        log: Any = logging.getLogger("test")
        log.dev = log.debug
        self.log = log
        self.epoch = None
        self.committed, self.position = OLD, cast("int | None", None)
        self.held_up: list[asyncio.Event] = []

    def assignment(self) -> set[TP]:
        return {PLACE}

    async def seek_to_committed(self) -> dict[TP, int]:
        found = self.committed
        if self.held_up:
            await self.held_up.pop().wait()
        self.position = found
        return {PLACE: found}

    async def _wait_next_records(self, timeout: float) -> tuple[Mapping[TP, Sequence[Any]], set[TP]]:
        await asyncio.sleep(0)
        fetched, self.fetched = [record(offset) for offset in self.fetched], []
        return {PLACE: fetched} if fetched else {}, {PLACE}

    async def callback(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.delivered.append(message)

    async def earliest_offsets(self, *places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, 0)

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        self.committed = offsets[PLACE]
        return True

    async def _seek(self, place: TP, offset: int) -> None:
        self.position = offset


@pytest.fixture
async def consumer() -> Consumer:
    return Consumer()


def begins_at_the_beginning(consumer: Consumer) -> bool:
    return (consumer.position, consumer.committed, consumer._read_offset[PLACE] or 0) == (0, 0, 0)


async def test_a_log_that_lost_records_is_read_from_its_beginning(consumer: Consumer):
    await consumer.perform_seek()
    assert begins_at_the_beginning(consumer)


async def test_a_second_seek_at_the_same_time_does_not_undo_it(consumer: Consumer):
    answer = asyncio.Event()
    consumer.held_up.append(answer)
    late = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)  # it asked, and the answer, the old offset, is still on its way
    other = asyncio.create_task(consumer.perform_seek())
    for _ in range(10):
        await asyncio.sleep(0)
    answer.set()
    await asyncio.gather(late, other)
    assert begins_at_the_beginning(consumer)


async def test_a_commit_under_way_lands_before_the_positions_are_read(consumer: Consumer):
    consumer.committed = 0
    consumer._commit_fut = asyncio.get_running_loop().create_future()
    seeking = asyncio.create_task(consumer.perform_seek())
    for _ in range(10):
        await asyncio.sleep(0)
    consumer.committed = OLD  # now the commit lands
    done, consumer._commit_fut = consumer._commit_fut, None
    assert done is not None
    done.set_result(None)
    await seeking
    assert begins_at_the_beginning(consumer)


async def test_nothing_is_delivered_while_positions_are_moved(consumer: Consumer):
    """Else higher offsets stand in the ring before lower ones: what follows is acknowledged, and never committed."""
    consumer.committed = 64
    consumer.app.epochs.known["message.created/0"] = 1
    answer = asyncio.Event()
    consumer.held_up.append(answer)
    seeking = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)
    consumer.fetched += [70, 71]  # they were on their way
    delivering = asyncio.create_task(consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event())))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not consumer._ring[PLACE]
    consumer.fetched[:] = [64, 65]
    answer.set()
    await seeking
    for _ in range(20):
        await asyncio.sleep(0)
    assert [(chunk.last, chunk.size) for chunk in consumer._ring[PLACE]] == [(65, 2)]
    consumer._stopped.set()
    await delivering


async def test_a_delivery_under_way_ends_before_positions_are_moved(consumer: Consumer):
    consumer.committed = 64
    consumer.app.epochs.known["message.created/0"] = 1
    consumer.fetched += [70, 71]
    delivering = asyncio.create_task(consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event())))
    await asyncio.sleep(0)
    seeking = asyncio.create_task(consumer.perform_seek())
    await seeking
    assert not consumer._ring[PLACE]
    assert consumer._read_offset[PLACE] == 64
    consumer._stopped.set()
    await delivering


async def test_positions_of_a_rebalance_that_another_has_overtaken_resume_nothing(consumer: Consumer):
    answer = asyncio.Event()
    consumer.held_up.append(answer)
    seeking = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)
    consumer.app.rebalancing_count += 1
    answer.set()
    with pytest.raises(RebalanceAgain):
        await seeking


async def delivered(consumer: Consumer, *offsets: int) -> list[list[int]]:
    """The offsets of the chunks that a fetch of these makes."""
    consumer.fetched, consumer.delivered = list(offsets), []
    async with consumer._turns:
        await consumer._deliver_fetched()
    return [[each.offset for each in message.records] for message in consumer.delivered]


async def test_an_event_carries_a_chunk_and_nothing_that_faust_would_decode(consumer: Consumer):
    found = await delivered(consumer, *range(CHUNK + 2))
    assert found == [list(range(CHUNK)), [CHUNK, CHUNK + 1]]
    message = consumer.delivered[0]
    assert (message.key, message.value, message.headers, message.generation_id) == (None, None, None, 3)
    assert (message.offset, message.chunk.last, message.chunk.size) == (CHUNK - 1, CHUNK - 1, CHUNK)
    assert message.records[0].value == b"value"
    assert list(consumer._ring[PLACE]) == [each.chunk for each in consumer.delivered]


async def test_records_below_the_floor_are_left_out_in_the_middle_of_a_chunk(consumer: Consumer):
    consumer._read_offset |= {PLACE: 70}
    assert await delivered(consumer, 68, 69, 70, 72) == [[70, 72]]
    assert await delivered(consumer, 60, 61) == []
    assert [chunk.last for chunk in consumer._ring[PLACE]] == [72]


@pytest.mark.parametrize("ends", ["flow", "generation"])
async def test_a_rebalance_between_two_chunks_ends_the_delivery(consumer: Consumer, ends: str):
    async def callback(message: Any) -> None:
        consumer.delivered.append(message)
        if ends == "flow":
            consumer.flow_active = False
        else:
            consumer.app.consumer_generation_id += 1

    consumer.callback = callback
    assert await delivered(consumer, *range(3 * CHUNK)) == [list(range(CHUNK))]


async def test_what_is_fetched_of_a_partition_that_is_not_read_is_not_delivered(consumer: Consumer):
    async def paused(timeout: float) -> tuple[Mapping[TP, Sequence[Any]], set[TP]]:
        return {PLACE: [record(1)]}, set()

    consumer._wait_next_records = paused
    assert await delivered(consumer) == []
    consumer._buffered_partitions.add(PLACE)  # its buffer is full: it is read no more, and this was read before
    assert await delivered(consumer) == [[1]]


async def test_a_commit_waits_for_the_oldest_chunk_and_knows_how_much_of_it_is_finished(consumer: Consumer):
    await delivered(consumer, *range(2 * CHUNK))
    older, newer = consumer.delivered
    for message in (older, newer):
        message.incref()
        consumer.track_message(message)
    for _ in range(CHUNK):
        newer.chunk.settle(is_done=True)
    assert newer.ack(consumer)
    older.chunk.settle(is_done=True)
    assert (consumer._new_offset(PLACE), consumer._begun(PLACE)) == (None, 1)
    assert consumer._unacked_messages == {older}
    for _ in range(CHUNK - 1):
        older.chunk.settle(is_done=True)
    assert older.ack(consumer)
    assert not older.ack(consumer)
    assert (consumer._new_offset(PLACE), consumer._begun(PLACE)) == (2 * CHUNK, 0)
    assert consumer._unacked_messages == set()


async def test_an_ack_of_an_earlier_delivery_says_nothing_about_a_later_one(consumer: Consumer):
    """Both end at the same offset, and the later one has a record that was in another chunk before."""
    consumer.committed = 0
    consumer.app.epochs.known["message.created/0"] = 1
    await delivered(consumer, 1, 2)
    [earlier] = consumer.delivered
    await consumer.perform_seek()
    await delivered(consumer, 0, 1, 2)
    for _ in range(2):
        earlier.chunk.settle(is_done=True)
    earlier.incref()
    earlier.ack(consumer)
    assert consumer._new_offset(PLACE) is None
