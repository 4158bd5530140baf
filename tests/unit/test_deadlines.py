"""Many waits of one length: each is told of its deadline, in order, by one timer."""

from __future__ import annotations

import asyncio

from ingest.deadlines import Deadlines


async def reached_all(deadlines: Deadlines[str]) -> None:
    async with asyncio.timeout(5):
        while deadlines:  # noqa: ASYNC110 - a timer that is waited for
            await asyncio.sleep(0.005)


async def test_waits_reach_their_deadlines_in_the_order_in_which_they_began_or_began_anew():
    clock, reached = asyncio.get_running_loop().time, dict[str, float]()
    deadlines = Deadlines[str](0.1, lambda wait: reached.update({wait: clock()}))
    began = {}
    for wait in ("a", "b", "c", "a"):
        deadlines.begin(wait)
        began[wait] = clock()
        await asyncio.sleep(0.02)
    assert len(deadlines) == 3
    await reached_all(deadlines)
    assert list(reached) == ["b", "c", "a"]
    assert all(reached[wait] - began[wait] > 0.095 for wait in reached)
    assert deadlines._timer is None


async def test_a_wait_that_ends_before_is_not_told_and_the_next_one_is_in_time():
    reached: list[str] = []
    deadlines = Deadlines[str](0.05, reached.append)
    for wait in ("a", "b", "c"):
        deadlines.begin(wait)
    deadlines.end("a")
    deadlines.end("c")
    deadlines.end("unknown")
    await reached_all(deadlines)
    assert reached == ["b"]


async def test_there_is_no_timer_while_nothing_waits():
    deadlines = Deadlines[str](60.0, lambda _: None)
    assert deadlines._timer is None
    for _ in range(2):
        deadlines.begin("a")
        timer = deadlines._timer
        deadlines.begin("b")
        assert timer is not None and deadlines._timer is timer
        deadlines.end("a")
        assert deadlines._timer is timer
        deadlines.end("b")
        assert deadlines._timer is None and timer.cancelled()


async def test_what_is_done_at_a_deadline_may_begin_a_wait():
    reached: list[str] = []

    def again(wait: str) -> None:
        reached.append(wait)
        if len(reached) < 3:
            deadlines.begin(wait)

    deadlines = Deadlines[str](0.01, again)
    deadlines.begin("a")
    await reached_all(deadlines)
    assert reached == ["a"] * 3
