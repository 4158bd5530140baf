"""Questions that are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from domain.errors import Unavailable
from runtime.dataloader import DataLoader


class Server:
    """Answers when it is let go, with how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.go = asyncio.Semaphore(0)
        self.fails = False

    async def ask(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(keys))
        number = len(self.asked)
        await self.go.acquire()
        if self.fails:
            raise Unavailable("not now")
        return dict.fromkeys(keys, number)


async def asking(gathered: DataLoader[str, int], *keys: str) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(gathered.get(key)) for key in keys]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_while_a_question_is_on_its_way_is_asked_together_and_anew():
    server = Server()
    gathered = DataLoader(server.ask)
    first = await asking(gathered, "a")
    others = await asking(gathered, "a", "b", "b", "c")
    for _ in range(2):
        server.go.release()
    assert await asyncio.gather(*first, *others) == [1, 2, 2, 2, 2]
    assert server.asked == [["a"], ["a", "b", "c"]]


async def test_a_failure_is_told_to_those_who_asked_and_the_next_question_is_asked():
    server = Server()
    gathered = DataLoader(server.ask)
    server.fails = True
    [one] = await asking(gathered, "a")
    server.go.release()
    with pytest.raises(Unavailable):
        await one
    server.fails = False
    server.go.release()
    assert await gathered.get("a") == 2


async def test_who_stops_waiting_takes_nothing_from_the_others():
    server = Server()
    gathered = DataLoader(server.ask)
    gone, stays = await asking(gathered, "a", "a")
    gone.cancel()
    server.go.release()
    assert await stays == 1


async def test_a_question_has_a_most():
    server = Server()
    gathered = DataLoader(server.ask, max_keys=2)
    tasks = await asking(gathered, "a", "b", "c")
    for _ in range(2):
        server.go.release()
    await asyncio.gather(*tasks)
    assert server.asked == [["a", "b"], ["c"]]


async def test_a_key_without_a_value_fails_alone():
    async def query(keys: Sequence[str]) -> Mapping[str, int]:
        return {key: 1 for key in keys if key != "b"}

    loader = DataLoader(query)
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(loader.get(key) for key in "abc"), return_exceptions=True)
        assert [type(each) for each in found] == [int, KeyError, int]
        assert await loader.get("a") == 1
