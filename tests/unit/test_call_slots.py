"""So many calls of a user run at a time, as many wait, and the rest are refused."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import RateLimited
from ingest.http import concurrency
from ingest.http.concurrency import CallSlots, Kind, kind_of
from schemas.routes import BY_ID, OPERATIONS


class Calls:
    """Calls that are under way until they are let go."""

    def __init__(self, slots: CallSlots) -> None:
        self.slots = slots
        self.running = 0
        self.most = 0
        self.go = asyncio.Event()

    async def call(self, user: str = "alice", kind: Kind = "calls") -> None:
        await self.slots.take(kind, user)
        try:
            self.running += 1
            self.most = max(self.most, self.running)
            await self.go.wait()
            self.running -= 1
        finally:
            self.slots.leave(kind, user)

    def start(self, count: int, user: str = "alice", kind: Kind = "calls") -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.call(user, kind)) for _ in range(count)]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_wait_as_run_and_the_rest_are_refused_at_once():
    calls = Calls(CallSlots(calls_per_user=3, messages_per_user=5))
    tasks = calls.start(10)
    await turns()
    refused = [task for task in tasks if task.done()]
    assert (calls.running, len(refused)) == (3, 4)
    for task in refused:
        error = task.exception()
        assert isinstance(error, RateLimited)
        assert error.retry_after_s >= 1
    calls.go.set()
    await asyncio.gather(*(task for task in tasks if task not in refused))
    assert calls.most == 3
    assert not calls.slots._running


async def test_users_and_kinds_are_counted_apart():
    calls = Calls(CallSlots(calls_per_user=1, messages_per_user=2))
    calls.start(2, "alice")
    for user, kind, count in (("bob", "calls", 1), ("alice", "messages", 2), ("alice", "transfers", 1)):
        before = calls.running
        calls.start(count, user, kind)
        await turns()
        assert calls.running >= before + count
    calls.go.set()
    await turns()
    assert not calls.slots._running


async def test_a_call_waits_only_for_a_while(monkeypatch):
    monkeypatch.setattr(concurrency, "WAIT_S", 0.05)
    calls = Calls(CallSlots(calls_per_user=1))
    first, second = calls.start(2)
    with pytest.raises(RateLimited):
        await second
    assert not first.done()
    calls.go.set()
    await first
    assert not calls.slots._running


async def test_a_call_that_ends_while_it_waits_leaves_no_trace():
    calls = Calls(CallSlots(calls_per_user=1))
    first, second = calls.start(2)
    await turns()
    second.cancel()
    await asyncio.wait({second})
    [third] = calls.start(1)
    calls.go.set()
    await asyncio.gather(first, third)
    assert not calls.slots._running


async def test_a_slot_that_was_handed_to_a_call_that_ends_goes_on_to_the_next():
    calls = Calls(CallSlots(calls_per_user=2))
    tasks = calls.start(4)
    await turns()
    calls.go.set()
    await asyncio.sleep(0)  # the slots are handed over, and the waiting calls have not run yet
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert tasks[2].cancelled()
    assert not calls.slots._running


async def test_without_a_limit_nothing_is_counted():
    calls = Calls(CallSlots())
    calls.start(100)
    await turns()
    assert calls.running == 100
    calls.go.set()


def test_messages_and_files_are_kinds_of_their_own():
    assert kind_of(BY_ID["sendMessage"]) == "messages"
    assert {one.id for one in OPERATIONS if one.path.startswith("/media") and kind_of(one) == "calls"} == {
        "signMediaUrl"
    }
    assert kind_of(BY_ID["createConversation"]) == kind_of(BY_ID["searchMessages"]) == "calls"
