"""Positions of a stage after its log has lost records: the beginning, whatever else is under way.

The real consumer without a broker: what it would ask of one is answered here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.tables.recovery import RebalanceAgain
from faust.types import TP

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


class Consumer(StageConsumer):
    """A consumer whose broker has an offset of the earlier log: a commit that came late."""

    def __init__(self) -> None:
        self._ring, self._acked, self._acked_index = defaultdict(deque), defaultdict(list), defaultdict(set)
        self._read_offset, self._committed_offset = defaultdict(lambda: None), defaultdict(lambda: None)
        self._turns, self._deliverer = asyncio.Lock(), cast("asyncio.Task[Any] | None", None)
        self._commit_fut = cast("asyncio.Future[None] | None", None)
        conf = SimpleNamespace(broker_rebalance_timeout=30)
        self.app = SimpleNamespace(epochs=Epochs(), stage="status", should_stop=False, conf=conf, rebalancing_count=1)
        self.app.topics = SimpleNamespace(acks_enabled_for=lambda _: True, _tp_index={})
        self.flow_active, self._stopped, self._commit_every = True, asyncio.Event(), None
        self.fetched: list[int] = []
        """Offsets that the next fetch brings."""
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

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        await asyncio.sleep(0)
        while self.fetched:
            yield PLACE, SimpleNamespace(topic=PLACE.topic, offset=self.fetched.pop(0))

    async def callback(self, message: Any) -> None:
        await asyncio.sleep(0)

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
    assert list(consumer._ring[PLACE]) == [64, 65]
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
