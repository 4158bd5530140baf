"""Work that nobody awaits."""

from __future__ import annotations

import asyncio

from runtime.tasks import Tasks


async def test_a_failure_is_told_an_end_and_a_cancel_are_not():
    tasks, failures = Tasks(), []

    async def fails() -> None:
        raise KeyError("x")

    async def ends() -> None:
        return

    async def stays() -> None:
        await asyncio.Event().wait()

    for work in (fails, ends, stays):
        tasks.spawn(work(), lambda work=work: failures.append(work))
    await asyncio.sleep(0)
    tasks.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert failures == [fails]
    assert len(tasks) == 0
