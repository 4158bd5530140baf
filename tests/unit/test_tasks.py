"""Work that nobody awaits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from runtime.tasks import Tasks, end


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


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _fails() -> None:
    raise KeyError("x")


async def _fails_on_its_way_out() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise KeyError("x")


@pytest.mark.parametrize("work", [_for_ever, _fails, _fails_on_its_way_out])
async def test_a_task_that_is_ended_has_ended_and_asyncio_reports_no_error_of_it(work: Callable[[], Awaitable[None]]):
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    await end(task)
    assert task.done()
    del task
    gc.collect()
    assert reported == []
