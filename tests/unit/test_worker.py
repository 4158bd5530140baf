"""A worker: its process ends with the first task of its own that fails, and commits nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from streams import worker
from streams.batch import Stage
from streams.lanes import LOW_LATENCY, THROUGHPUT, BatchPolicy
from streams.retry import RetriesExhausted


@pytest.mark.parametrize(
    ("cause", "code"),
    [(KeyError("x"), worker.EX_SOFTWARE), (RetriesExhausted("trouble lasted over 40 s"), worker.EX_TEMPFAIL)],
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
    def asks(policy: BatchPolicy) -> tuple[int, int]:
        app = worker.build_app(Stage("s", (), (), _nothing, policy=policy), "127.0.0.1:9", tmp_path, object())
        thread = app.consumer._new_consumer_thread()
        client = thread._create_worker_consumer(app.transport)
        return client._fetch_min_bytes, client._fetch_max_wait_ms

    least, wait_ms = asks(THROUGHPUT)
    assert (least > 100_000, wait_ms) == (True, 200)
    assert asks(LOW_LATENCY)[0] == 1


async def _nothing(_):
    return []


@pytest.mark.parametrize("rebalanced", [False, True])
async def test_a_batch_that_ends_in_a_later_generation_is_not_acknowledged(monkeypatch, tmp_path, rebalanced):
    """Its offsets may be those of a log that has been replaced since; its records come again."""
    acknowledged: list[int] = []
    forgotten: list[object] = []
    consumer = SimpleNamespace(forget=forgotten.append)
    app = SimpleNamespace(should_stop=False, rebalancing=False, consumer_generation_id=3, consumer=consumer)

    async def process(*_):
        app.consumer_generation_id += rebalanced
        return SimpleNamespace(letters=(), dropped=0)

    monkeypatch.setattr(worker, "process", process)
    made = worker.Worker(Stage("s", (), (), _nothing), None, "", tmp_path, None, app=app)
    messages = [
        SimpleNamespace(generation_id=3, topic="t", partition=0, offset=n, key=b"", value=b"", headers=())
        for n in range(2)
    ]
    events = [SimpleNamespace(message=m, ack=lambda m=m: acknowledged.append(m.offset)) for m in messages]
    for _ in events:
        made._watchdog.delivered()
    await made._work(events)
    assert (acknowledged, forgotten) == (([], messages) if rebalanced else ([0, 1], []))
    assert made._watchdog.unfinished == 0
