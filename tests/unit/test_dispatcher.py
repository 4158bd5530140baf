"""Committing what was published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from adapters.memory.history import MemoryHistory
from adapters.memory.tables import Tables
from gateway import dispatcher, hint_budget
from gateway.dispatcher import Dispatcher
from gateway.hint_budget import HintBudget
from schemas.codec import record
from tests import make

Log = asyncio.Queue[str]


@dataclass
class Records:
    """A consumer that hands out what is put into it."""

    log: Log
    queue: asyncio.Queue = field(default_factory=asyncio.Queue)

    async def batch(self, _: int) -> Sequence[object]:
        return [await self.queue.get()]

    async def commit(self) -> None:
        self.log.put_nowait("commit")


@dataclass
class Slow:
    """A fan-out that publishes when it is let."""

    log: Log
    go: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def publish(self, _: object) -> None:
        self.log.put_nowait("publish")
        await self.go.acquire()
        self.log.put_nowait("published")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "COMMIT_S", 0.02)


async def test_nothing_is_committed_before_it_is_published_and_all_of_it_when_it_is_quiet(quick):
    log: Log = asyncio.Queue()
    records, fanout = Records(log), Slow(log)
    task = asyncio.create_task(Dispatcher(records, fanout, MemoryHistory(Tables())).run())

    async def publish(seq: int) -> list[str]:
        """Publish one record slowly; what happened until it was committed."""
        records.queue.put_nowait(record(make.sent(seq=seq), producer="test"))
        happened = [await log.get()]
        with pytest.raises(TimeoutError):  # several times of committing pass
            await asyncio.wait_for(log.get(), 0.1)
        fanout.go.release()
        while happened[-1] != "commit":
            happened.append(await log.get())
        return happened

    async with asyncio.timeout(5):
        for seq in (1, 2):
            assert await publish(seq) == ["publish", "published", "commit"]
    task.cancel()


async def test_what_a_newer_version_says_is_passed_over_and_what_follows_is_not(quick):
    log: Log = asyncio.Queue()
    records, fanout = Records(log), Slow(log, asyncio.Semaphore(99))
    task = asyncio.create_task(Dispatcher(records, fanout, MemoryHistory(Tables())).run())
    renamed = record(make.member_added(1), producer="test")
    records.queue.put_nowait(replace(renamed, value=renamed.value.replace(b"member_added", b"renamed")))
    records.queue.put_nowait(record(make.sent(seq=1), producer="test"))
    async with asyncio.timeout(5):
        while await log.get() != "published":
            pass
    assert not task.done()
    task.cancel()


def test_hints_that_are_held_back_are_not_for_who_was_removed_meanwhile():
    budget, hints = HintBudget(), [(f"user:{n}:messages", b"x") for n in range(500)]
    assert budget.spend("c", hints, 0.0)
    assert budget.spend("c", hints, 0.1) == []
    budget.without("c", "user:7:messages")
    assert budget.due(99.0) == [hint for hint in hints if hint[0] != "user:7:messages"]


def test_small_conversations_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hint_budget, "_MOST_KNOWN", 10)
    budget = HintBudget()
    for number in range(100):
        assert budget.spend(str(number), [("user:a:messages", b"x")], float(number))
    assert len(budget._free_at) <= 11
