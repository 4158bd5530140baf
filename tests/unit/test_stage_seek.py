"""Positions of a stage after its log has lost records: the beginning, whatever else is under way.

The real consumer without a broker: what it would ask of one is answered here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any, cast

import pytest
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
        self._seeking, self._commit_fut = asyncio.Lock(), cast("asyncio.Future[None] | None", None)
        conf = SimpleNamespace(broker_rebalance_timeout=30)
        self.app = SimpleNamespace(epochs=Epochs(), stage="status", should_stop=False, conf=conf)
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
