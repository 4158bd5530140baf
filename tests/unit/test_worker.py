"""A worker: its process ends with the first task of its own that fails, and commits nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from runtime.kafka_settings import Kafka
from runtime.lifecycle import EX_TEMPFAIL
from streams import worker
from streams.batch import Result
from streams.dead_letters import ConsumerRecord
from streams.deliveries import Chunk
from streams.faust_app import build_app
from streams.lanes import BatchPolicy, Lanes
from streams.retry import PartitionRevoked, RetriesExhausted
from streams.stage import Stage
from streams.stages import status


@pytest.mark.parametrize(
    ("cause", "code"),
    [(KeyError("x"), worker.EX_SOFTWARE), (RetriesExhausted("trouble lasted over 40 s"), EX_TEMPFAIL)],
)
async def test_a_watch_or_lane_that_fails_ends_the_process(monkeypatch, cause, code):
    exits: list[int] = []
    monkeypatch.setattr(worker, "_exit", lambda code, *_: exits.append(code))

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
    monkeypatch.setattr(worker, "_exit", lambda code, *_: exits.append(code))
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
async def test_the_watch_outlives_a_lag_that_cannot_be_read_and_sees_the_crash(monkeypatch, tmp_path, crash):
    exits: list[int] = []
    monkeypatch.setattr(worker, "_exit", lambda code, *_: exits.append(code))
    monkeypatch.setattr(worker, "_CHECK_S", 0.01)
    monkeypatch.setattr(worker, "_LAG_EVERY", 1)
    asked: list[bool] = []

    async def behind() -> dict[str, Any]:
        asked.append(True)
        if len(asked) % 2:
            raise KafkaTimeoutError
        await asyncio.Event().wait()
        return {}

    consumer = SimpleNamespace(behind=behind, epoch=None, crashed=False, crash_reason=None)
    app = SimpleNamespace(
        started=True, rebalancing=False, consumer_generation_id=1, consumer=consumer, crashed=False, crash_reason=None
    )
    made = worker.Worker(Stage("s", (), (), _nothing), None, Kafka(), tmp_path, None, app=app)
    watch = asyncio.create_task(made._watch())
    while len(asked) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not watch.done() and exits == []
    assert made._watchdog.lag is None
    consumer.crashed = crash
    while crash and not exits:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert set(exits) == ({worker.EX_SOFTWARE} if crash else set())
    watch.cancel()
    await asyncio.wait({watch})


async def _nothing(_):
    return []


class Faust:
    """The app and the consumer, as a worker sees them."""

    def __init__(self) -> None:
        self.should_stop, self.rebalancing, self.consumer_generation_id = False, False, 3
        self.consumer = self
        self.forgotten: list[int] = []
        self.acked: list[int] = []
        """Last offsets of chunks."""

    def forget(self, message: Any) -> None:
        self.forgotten.append(message.chunk.last)

    def event(self, records: list[Any]) -> Any:
        """The event of a chunk."""
        chunk = Chunk(records[-1].offset, len(records))
        message = SimpleNamespace(generation_id=self.consumer_generation_id, records=records, chunk=chunk)
        return SimpleNamespace(message=message, ack=lambda: self.acked.append(chunk.last))


def fetched(begin: int, *keys: bytes) -> list[Any]:
    """Records as aiokafka returns them."""
    return [
        SimpleNamespace(topic="t", partition=0, offset=begin + n, key=key, value=b"", headers=())
        for n, key in enumerate(keys)
    ]


def a_worker(tmp_path: Path, app: Faust, **more: Any) -> worker.Worker:
    return worker.Worker(Stage("s", (), (), _nothing, **more), None, Kafka(), tmp_path, None, app=app)


async def _take(made: worker.Worker, *events: Any) -> list[worker.Item]:
    """Let a worker queue the records of these events, and take all of them as one batch."""
    lanes = Lanes[worker.Item](_nothing)
    for event in events:
        await made._enqueue(lanes, event)
    items = [item for queue in lanes._queues.values() for item in queue]
    return sorted(items, key=lambda item: item[1].offset)


@pytest.mark.parametrize("rebalanced", [False, True])
async def test_a_batch_that_ends_in_a_later_generation_is_not_acknowledged(monkeypatch, tmp_path, rebalanced):
    """Its offsets may be those of a log that has been replaced since; its records come again."""
    app = Faust()

    async def process(_stage, part, _log, _retry, done, _skips):
        app.consumer_generation_id += rebalanced
        done(part, Result())

    monkeypatch.setattr(worker, "process", process)
    made = a_worker(tmp_path, app)
    items = await _take(made, app.event(fetched(0, b"a", b"b")), app.event(fetched(2, b"c")))
    assert made._watchdog.unfinished == 3
    assert list(await made._work(items)) == []
    assert (app.acked, app.forgotten) == (([], [1, 2]) if rebalanced else ([1, 2], []))
    assert made._watchdog.unfinished == 0


@pytest.mark.parametrize("revoked", [False, True])
async def test_what_is_done_is_acknowledged_though_the_rest_is_not(monkeypatch, tmp_path, revoked):
    """Ten records of 900 rows each and one of 5,000: two fit into a part, the large one is a part, the rest waits."""
    app = Faust()

    async def process(_stage, part, _log, _retry, done, _skips):
        if revoked and part[0].key == b"large":
            raise PartitionRevoked("the partition went elsewhere")
        done(part, Result())

    async def weigh(conversation_ids):
        return [5_000 if id_ == "large" else 900 for id_ in conversation_ids]

    monkeypatch.setattr(worker, "process", process)
    made = a_worker(tmp_path, app, weigh=weigh)
    keys = [b"large", *(b"%d" % n for n in range(10))]
    items = await _take(made, *(app.event(fetched(n, key)) for n, key in enumerate(keys)))
    left = await made._work(items)
    if revoked:
        assert (app.acked, list(left), made._watchdog.unfinished) == ([1, 2], [], 0)
        assert app.forgotten == [0, *range(3, 11)]
    else:
        assert (app.acked, list(left), made._watchdog.unfinished) == ([1, 2, 0], list(range(3, 11)), 8)


async def _done(_stage, part, _log, _retry, done, _skips):
    done(part, Result())


async def test_a_chunk_is_acknowledged_after_its_last_record_whatever_the_order(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "process", _done)
    app = Faust()
    made = a_worker(tmp_path, app)
    items = await _take(made, app.event(fetched(0, b"a", b"b", b"c")), app.event(fetched(3, b"a", b"b")))
    await made._work([items[2], items[0], items[4]])
    assert (app.acked, made._watchdog.unfinished) == ([], 2)
    await made._work([items[3]])
    assert app.acked == [4]
    await made._work([items[1]])
    assert (app.acked, app.forgotten, made._watchdog.unfinished) == ([4, 2], [], 0)


async def test_a_record_that_waits_for_a_later_turn_keeps_its_chunk(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "process", _done)
    app = Faust()

    async def weigh(conversation_ids):
        return [5_000 if id_.startswith("large") else 1 for id_ in conversation_ids]

    made = a_worker(tmp_path, app, weigh=weigh)
    items = await _take(made, app.event(fetched(0, b"large", b"a", b"large too")))
    left = await made._work(items)
    assert (list(left), app.acked, app.forgotten) == ([2], [], [])
    assert await made._work([items[2]]) == []
    assert app.acked == [2]


async def test_a_chunk_that_is_dropped_in_part_is_waited_for_and_never_acknowledged(monkeypatch, tmp_path):
    """The one record is under way when the rebalance begins, and ends before the next generation; the other waits."""
    app, begun, end = Faust(), asyncio.Event(), asyncio.Event()

    async def process(_stage, part, _log, _retry, done, _skips):
        begun.set()
        await end.wait()
        done(part, Result())

    monkeypatch.setattr(worker, "process", process)
    made = a_worker(tmp_path, app)
    event = app.event(fetched(0, b"a", b"b"))
    under_way, waiting = await _take(made, event)
    working = asyncio.create_task(made._work([under_way]))
    await begun.wait()
    app.rebalancing = True
    assert await made._work([waiting]) == ()
    assert app.forgotten == []  # its other record is under way
    end.set()
    await working
    assert (app.acked, app.forgotten, made._watchdog.unfinished) == ([], [1], 0)
    assert (event.message.chunk.finished, event.message.chunk.dropped) == (1, 1)


async def test_full_lanes_take_the_rest_of_a_chunk_later_and_in_order(tmp_path):
    app = Faust()
    made = a_worker(tmp_path, app)
    taken: list[int] = []
    release = asyncio.Event()

    async def work(items):
        await release.wait()
        taken.extend(record.offset for _, record in items)
        return ()

    lanes = Lanes[worker.Item](work, BatchPolicy(lanes=1, batch=2, most=3))
    running = asyncio.create_task(lanes.run())
    putting = asyncio.create_task(made._enqueue(lanes, app.event(fetched(0, *[b"a"] * 10))))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not putting.done()
    assert (lanes._queued, made._watchdog.unfinished) == (3, 10)
    release.set()
    async with asyncio.timeout(5):
        await putting
        while len(taken) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    assert taken == list(range(10))


async def test_records_have_their_own_places_and_headers(tmp_path):
    app = Faust()
    made = a_worker(tmp_path, app)
    records = fetched(7, b"a", b"b")
    records[1].headers = (("ce_id", b"1"),)
    taken = [record for _, record in await _take(made, app.event(records))]
    assert taken == [
        ConsumerRecord("t", 0, 7, b"a", b""),
        ConsumerRecord("t", 0, 8, b"b", b"", (("ce_id", b"1"),)),
    ]


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
