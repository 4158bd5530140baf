"""A worker: its process ends with the first task of its own that fails, and commits nothing."""

from __future__ import annotations

import asyncio

import pytest

from streams import worker
from streams.lanes import AT_ONCE, IN_THE_BACKGROUND, Pace
from streams.stage import GiveUp, Stage


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


async def test_the_broker_gathers_for_a_stage_in_the_background_and_answers_others_at_once(tmp_path):
    def asks(pace: Pace) -> tuple[int, int]:
        app = worker.build_app(Stage("s", (), _nothing, pace=pace), "127.0.0.1:9", tmp_path, object())
        thread = app.consumer._new_consumer_thread()
        client = thread._create_worker_consumer(app.transport)
        return client._fetch_min_bytes, client._fetch_max_wait_ms

    least, wait_ms = asks(IN_THE_BACKGROUND)
    assert (least > 100_000, wait_ms) == (True, 200)
    assert asks(AT_ONCE)[0] == 1


async def _nothing(_):
    return []
