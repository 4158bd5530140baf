"""A worker's own tasks: the process ends with the first of them that fails, and commits nothing."""

from __future__ import annotations

import asyncio

import pytest

from streams import worker
from streams.stage import GiveUp


@pytest.mark.parametrize(
    ("cause", "code"), [(KeyError("x"), worker.EX_SOFTWARE), (GiveUp("trouble lasted over 40 s"), worker.EX_TEMPFAIL)]
)
async def test_a_watch_or_lane_that_fails_ends_the_process(monkeypatch, cause, code):
    exits: list[int] = []
    monkeypatch.setattr(worker, "_exit", lambda code, _: exits.append(code))

    async def fails() -> None:
        raise cause

    task = asyncio.create_task(fails())
    task.add_done_callback(worker._ended)
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert exits == [code]
    stopped = asyncio.create_task(asyncio.Event().wait())
    stopped.add_done_callback(worker._ended)
    await asyncio.sleep(0)
    stopped.cancel()
    await asyncio.wait({stopped})
    await asyncio.sleep(0)
    assert exits == [code]
