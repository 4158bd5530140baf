"""A worker: its process ends with the first task of its own that fails, and commits nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.kafka_settings import Kafka
from runtime.lifecycle import EX_TEMPFAIL
from streams import worker
from streams.batch import Result
from streams.faust_app import build_app
from streams.lanes import LOW_LATENCY, THROUGHPUT, BatchPolicy
from streams.retry import PartitionRevoked, RetriesExhausted
from streams.stage import Stage
from streams.stages import status


@pytest.mark.parametrize(
    ("cause", "code"),
    [(KeyError("x"), worker.EX_SOFTWARE), (RetriesExhausted("trouble lasted over 40 s"), EX_TEMPFAIL)],
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


async def test_a_part_that_somebody_else_cancels_ends_the_process(monkeypatch):
    exits: list[int] = []
    monkeypatch.setattr(worker, "_exit", lambda code, _: exits.append(code))
    part, other = (asyncio.create_task(asyncio.Event().wait()) for _ in range(2))
    for each in (part, other):
        each.add_done_callback(worker._cancelled)
    await asyncio.sleep(0)
    part.cancel()
    other.remove_done_callback(worker._cancelled)
    other.cancel()
    await asyncio.wait({part, other})
    await asyncio.sleep(0)
    assert exits == [worker.EX_SOFTWARE]


@pytest.mark.parametrize("crash", [True, False])
async def test_the_watch_outlives_a_lag_that_is_cancelled_and_sees_the_crash(monkeypatch, tmp_path, crash):
    """The thread of a consumer that crashes cancels what it was asked."""
    exits: list[int] = []
    monkeypatch.setattr(worker, "_exit", lambda code, _: exits.append(code))
    monkeypatch.setattr(worker, "_CHECK_S", 0.01)
    monkeypatch.setattr(worker, "_LAG_EVERY", 1)
    asked: list[bool] = []

    async def behind() -> dict[str, Any]:
        asked.append(True)
        raise asyncio.CancelledError

    consumer = SimpleNamespace(behind=behind, epoch=None, crashed=False, crash_reason=None)
    app = SimpleNamespace(
        started=True, rebalancing=False, consumer_generation_id=1, consumer=consumer, crashed=False, crash_reason=None
    )
    made = worker.Worker(Stage("s", (), (), _nothing), None, Kafka(), tmp_path, None, app=app)
    watch = asyncio.create_task(made._watch())
    while len(asked) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not watch.done() and exits == []
    consumer.crashed = crash
    while crash and not exits:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert set(exits) == ({worker.EX_SOFTWARE} if crash else set())
    watch.cancel()
    await asyncio.wait({watch})


async def test_the_broker_gathers_for_a_stage_in_the_background_and_answers_others_at_once(tmp_path):
    def asks(policy: BatchPolicy) -> tuple[int, int]:
        app = build_app(Stage("s", (), (), _nothing, policy=policy), Kafka(bootstrap="127.0.0.1:9"), tmp_path, object())
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

    async def process(_stage, part, _log, _retry, done, _skips):
        app.consumer_generation_id += rebalanced
        done(part, Result())

    monkeypatch.setattr(worker, "process", process)
    made = worker.Worker(Stage("s", (), (), _nothing), None, Kafka(), tmp_path, None, app=app)
    messages = [
        SimpleNamespace(generation_id=3, topic="t", partition=0, offset=n, key=b"", value=b"", headers=())
        for n in range(2)
    ]
    events = [SimpleNamespace(message=m, ack=lambda m=m: acknowledged.append(m.offset)) for m in messages]
    for _ in events:
        made._watchdog.delivered()
    assert list(await made._work(events)) == []
    assert (acknowledged, forgotten) == (([], messages) if rebalanced else ([0, 1], []))
    assert made._watchdog.unfinished == 0


@pytest.mark.parametrize("revoked", [False, True])
async def test_what_is_done_is_acknowledged_though_the_rest_is_not(monkeypatch, tmp_path, revoked):
    """Ten records of 900 rows each and one of 5,000: two fit into a part, the large one is a part, the rest waits."""
    acknowledged: list[int] = []
    forgotten: list[int] = []
    consumer = SimpleNamespace(forget=lambda message: forgotten.append(message.offset))
    app = SimpleNamespace(should_stop=False, rebalancing=False, consumer_generation_id=3, consumer=consumer)

    async def process(_stage, part, _log, _retry, done, _skips):
        if revoked and part[0].key == b"large":
            raise PartitionRevoked("the partition went elsewhere")
        done(part, Result())

    async def weigh(conversation_ids):
        return [5_000 if id_ == "large" else 900 for id_ in conversation_ids]

    monkeypatch.setattr(worker, "process", process)
    made = worker.Worker(Stage("s", (), (), _nothing, weigh=weigh), None, Kafka(), tmp_path, None, app=app)
    keys = [b"large", *(b"%d" % n for n in range(10))]
    messages = [
        SimpleNamespace(generation_id=3, topic="t", partition=0, offset=n, key=key, value=b"", headers=())
        for n, key in enumerate(keys)
    ]
    events = [SimpleNamespace(message=m, ack=lambda m=m: acknowledged.append(m.offset)) for m in messages]
    for _ in events:
        made._watchdog.delivered()
    left = await made._work(events)
    if revoked:
        assert (acknowledged, list(left), made._watchdog.unfinished) == ([1, 2], [], 0)
        assert forgotten == [0, *range(3, 11)]
    else:
        assert (acknowledged, list(left), made._watchdog.unfinished) == ([1, 2, 0], list(range(3, 11)), 8)


async def test_receipts_that_are_stuck_hold_up_no_message(monkeypatch, tmp_path):
    handled: list[str] = []

    async def work(self, events) -> tuple[int, ...]:
        if any(topic == "receipt.recorded" for topic in events):
            await asyncio.Event().wait()
        handled.extend(events)
        return ()

    monkeypatch.setattr(worker.Worker, "_work", work)
    made = worker.Worker(status.create(None), None, Kafka(), tmp_path, None)
    lanes = asyncio.create_task(made._run_lanes())
    for number in range(40):  # the same conversations, and more of them than there are lanes
        for topic in ("receipt.recorded", "message.created"):
            await made._lanes[topic].put(b"%d" % number, topic)
    async with asyncio.timeout(5):
        while len(handled) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert set(handled) == {"message.created"}
    lanes.cancel()


def test_each_set_of_lanes_reads_topics_of_its_own(tmp_path):
    made = worker.Worker(status.create(None), None, Kafka(bootstrap="127.0.0.1:9"), tmp_path, None)
    made.app = build_app(made.stage, Kafka(bootstrap="127.0.0.1:9"), tmp_path, object())
    made._declare_agents()
    assert sorted(agent.channel.topics for agent in made.app.agents.values()) == [
        ("message.created", "status.retry"),
        ("receipt.recorded",),
    ]


def test_row_27_an_agent_that_would_break_the_order_of_a_conversation_does_not_start(tmp_path):
    made = worker.Worker(status.create(None), None, Kafka(bootstrap="127.0.0.1:9"), tmp_path, None)
    made.app = build_app(made.stage, Kafka(bootstrap="127.0.0.1:9"), tmp_path, object())
    declare = made.app.agent
    made.app.agent = lambda *channels, concurrency, **more: declare(*channels, concurrency=2, **more)
    with pytest.raises(RuntimeError, match="concurrency of 1"):
        made._declare_agents()
