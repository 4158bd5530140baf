"""Turns: few at once, one of each key, and queues that end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from domain.errors import RateLimited, Unavailable
from runtime.turns import Turns


class Work:
    """Callers that stay until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.most = 0
        self.go = asyncio.Event()

    async def call(self, key: str) -> str:
        async with self.turns.of(key):
            self.inside.append(key)
            assert len(set(self.inside)) == len(self.inside), "one of each key"
            self.most = max(self.most, len(self.inside))
            try:
                await self.go.wait()
            finally:
                self.inside.remove(key)
        return key


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_key_takes_one_place_however_many_call_and_others_get_theirs():
    work = Work(Turns(at_once=2, waiting=4, keys=10))
    storm = [asyncio.create_task(work.call("mallory")) for _ in range(30)]
    await settle()
    honest = asyncio.create_task(work.call("alice"))
    await settle()
    assert work.inside == ["mallory", "alice"]
    refused = [task for task in storm if task.done()]
    assert len(refused) == 25
    assert all(isinstance(task.exception(), RateLimited) for task in refused)
    work.go.set()
    assert await honest == "alice"
    assert [await task for task in storm if task not in refused] == ["mallory"] * 5
    assert work.most == 2
    assert not work.turns._lines


async def test_keys_beyond_the_bound_are_told_to_come_back():
    work = Work(Turns(at_once=1, waiting=0, keys=2))
    first, second = asyncio.create_task(work.call("a")), asyncio.create_task(work.call("b"))
    await settle()
    with pytest.raises(Unavailable):
        await work.call("c")
    with pytest.raises(RateLimited) as refused:
        await work.call("a")
    assert refused.value.retry_after_s > 0
    work.go.set()
    assert [await first, await second] == ["a", "b"]
    assert await work.call("c") == "c"


async def test_a_caller_who_gives_up_frees_the_place_and_the_queue():
    work = Work(Turns(at_once=1, waiting=1, keys=1))
    held, waits = asyncio.create_task(work.call("a")), asyncio.create_task(work.call("a"))
    await settle()
    for task in (waits, held):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert not work.turns._lines
    work.go.set()
    async with asyncio.timeout(1):
        assert await work.call("b") == "b"
