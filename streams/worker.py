"""The worker of a stage, in a Faust app.

Faust acknowledges a record whose handler raised. So the agent only hands records to lanes, never raises, and acks by
hand; the way out without a commit is the end of the process, which the supervisor starts again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from adapters.kafka.refusals import refusal_of
from domain.errors import Unavailable
from domain.event_log import EventLog
from domain.log_position import Epochs
from domain.skips import SkipList
from runtime.kafka_settings import Kafka
from runtime.lifecycle import EX_NOPERM, EX_TEMPFAIL
from runtime.metrics import BATCH_SECONDS, DEAD_LETTERS, DROPPED, LAG, RECORDS, RETRIES
from schemas.codec import headers_of
from streams.batch import Result, process, turn_of
from streams.dead_letters import ConsumerRecord, at_origin
from streams.faust_app import build_app
from streams.lanes import FEW_LANES, Lanes
from streams.retry import PartitionRevoked, RetriesExhausted, RetryPolicy, TurnEnded
from streams.stage import Stage
from streams.turns import lane_key
from streams.watchdog import Behind, Watchdog

_log = structlog.get_logger()

EX_SOFTWARE = 70
_STUCK_S, _STANDS_S = 60.0, 300.0
"""Seconds without a finished record, and without a commit in a lagging partition: a receipt may take many turns."""
_STOP_S = 20.0
_CHECK_S = 1.0
_LAG_EVERY = 10
"""Checks from one reading of the lag to the next."""
_EPOCH_EVERY = 3

Item: TypeAlias = tuple[Any, ConsumerRecord]
"""A record, with the event of Faust that has brought its chunk."""


@dataclass(slots=True)
class Worker:
    """Runs one stage in this process until it is told to stop."""

    stage: Stage
    log: EventLog
    kafka: Kafka
    data_dir: Path
    epochs: Epochs
    retry_s: float = 40.0
    skips: SkipList | None = None
    app: Any = None
    _lanes: dict[str, Lanes[Item]] = field(init=False)
    """By topic."""
    _watchdog: Watchdog = field(default_factory=Watchdog)

    def __post_init__(self) -> None:
        stage, policy = self.stage, self.stage.policy
        together = Lanes[Item](self._work, policy)
        apart = Lanes[Item](self._work, replace(policy, lanes=min(FEW_LANES, policy.lanes)))
        of_their_own = {kind.TOPIC for kind in stage.apart}
        self._lanes = {topic: apart if topic in of_their_own else together for topic in stage.topics}

    @property
    def ready(self) -> bool:
        """True once the group has given this worker partitions, or has none left to give."""
        app = self.app
        return app is not None and bool(app.started) and not app.rebalancing and int(app.consumer_generation_id) > 0

    async def run(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Work until ``stop`` returns; then finish what is under way, commit, and leave the group."""
        stopped = asyncio.ensure_future(stop())  # before the start, during which a signal may come too
        self.app = build_app(self.stage, self.kafka, self.data_dir, self.epochs)
        self.app.on_refused = lambda refused: _exit(EX_NOPERM, str(refused))
        self._declare_agents()
        self.app.finalize()
        if self.skips is not None:
            await self.skips.read()
        lanes = asyncio.create_task(self._run_lanes())
        watch = asyncio.create_task(self._watch())
        stopping = asyncio.Event()
        beside = asyncio.create_task(self._run_beside(stopping))
        parts = (lanes, watch, beside)
        for each in parts:
            each.add_done_callback(_ended)
        await self.app.start()
        _log.info("worker_started", stage=self.stage.name)
        for each in parts:
            each.add_done_callback(_cancelled)
        try:
            await stopped
        finally:
            for each in parts:
                each.remove_done_callback(_cancelled)
        watch.cancel()
        _log.info("worker_stopping", stage=self.stage.name, unfinished=self._watchdog.unfinished)
        stopping.set()
        _, unfinished = await asyncio.wait({asyncio.ensure_future(self.app.stop()), beside}, timeout=_STOP_S)
        if unfinished:
            _exit(EX_TEMPFAIL, "the worker did not stop in time")
        lanes.remove_done_callback(_ended)
        lanes.cancel()

    async def _run_lanes(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lanes in {id(lanes): lanes for lanes in self._lanes.values()}.values():
                group.create_task(lanes.run())

    async def _run_beside(self, stopping: asyncio.Event) -> None:
        if self.stage.beside is not None:
            await self.stage.beside.run(self.log, stopping)

    def _declare_agents(self) -> None:
        """Declare an agent for each set of lanes: full lanes then hold back only their own topics."""
        topics: dict[int, list[str]] = {}
        for topic, lanes in self._lanes.items():
            topics.setdefault(id(lanes), []).append(topic)
        for names in topics.values():
            self._declare_agent(names, self._lanes[names[0]])

    def _declare_agent(self, topics: Sequence[str], lanes: Lanes[Item]) -> None:
        topic = self.app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        async def consume(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._enqueue(lanes, event)

        agent = self.app.agent(topic, name=f"{self.stage.name}:{topics[0]}", concurrency=1)(consume)
        if agent.concurrency != 1:
            raise RuntimeError("an agent must have a concurrency of 1: more would break the order of a conversation")

    async def _enqueue(self, lanes: Lanes[Item], event: Any) -> None:
        """Put the records of a chunk into the queues of their keys."""
        self._watchdog.delivered(len(event.message.records))
        for fetched in event.message.records:
            place = fetched.topic, fetched.partition, fetched.offset
            record = ConsumerRecord(*place, fetched.key, fetched.value, headers_of(fetched.headers))
            key = lane_key(at_origin(self.stage.name, record), self.stage.owner_of)
            if not lanes.put_now(key, (event, record)):
                await lanes.put(key, (event, record))

    def _stale(self, event: Any) -> bool:
        return bool(self.app.should_stop or self.app.rebalancing or self._is_late(event))

    def _is_late(self, event: Any) -> bool:
        return bool(event.message.generation_id != self.app.consumer_generation_id)

    async def _work(self, items: Sequence[Item]) -> Sequence[int]:
        """Handle what has its turn; return the positions of the items that are left for a later one."""
        began = time.perf_counter()
        stale = {position for position, (event, _) in enumerate(items) if self._stale(event)}
        if stale:
            self._drop([items[position] for position in stale], "its partition went elsewhere")
        fresh = [position for position in range(len(items)) if position not in stale]
        if not fresh:
            return ()
        records = [items[position][1] for position in fresh]
        pending = {id(record): items[position] for record, position in zip(records, fresh, strict=True)}
        retry = RetryPolicy(
            total_s=self.retry_s,
            still_assigned=lambda: not self._stale(items[fresh[0]][0]),
            retried=RETRIES.labels(self.stage.name).inc,
            progressed=self._watchdog.progressed,
        )

        def done(part: Sequence[ConsumerRecord], result: Result) -> None:
            self._acknowledge([pending[id(record)] for record in part], result, time.perf_counter() - began)
            for record in part:
                del pending[id(record)]

        try:
            turn = await turn_of(self.stage, records, retry)
            for part in turn.parts:
                await process(self.stage, [records[position] for position in part], self.log, retry, done, self._skips)
        except PartitionRevoked as exc:
            self._drop(list(pending.values()), str(exc))
            return ()
        except TurnEnded:
            self._watchdog.progressed()
            return [position for position, record in zip(fresh, records, strict=True) if id(record) in pending]
        return [fresh[position] for position in turn.left]

    def _acknowledge(self, items: Sequence[Item], result: Result, seconds: float) -> None:
        """Count records whose effects are in. Raises PartitionRevoked when others may have them by now."""
        if self._is_late(items[0][0]):  # all are of one generation; offsets of an earlier one may be of an earlier log
            raise PartitionRevoked("the group was rebalanced meanwhile")
        self._settle(items, is_done=True)
        name = self.stage.name
        self._watchdog.finished(len(items))
        RECORDS.labels(name).inc(len(items))
        BATCH_SECONDS.labels(name).observe(seconds)
        _log.debug("batch_done", stage=name, ms=round(seconds * 1000, 1), **_span(items))
        DEAD_LETTERS.labels(name).inc(len(result.letters))
        DROPPED.labels(name).inc(result.dropped)

    def _settle(self, items: Sequence[Item], *, is_done: bool) -> None:
        """Acknowledge the chunks whose last record this is, unless one of their records was dropped."""
        for event, _ in items:
            chunk = event.message.chunk
            chunk.settle(is_done=is_done)
            if chunk.is_done:
                event.ack()
            elif chunk.is_settled:
                self.app.consumer.forget(event.message)

    def _skips(self, consumed: ConsumerRecord) -> bool:
        return self.skips is not None and self.skips.covers(consumed)

    def _drop(self, items: Sequence[Item], reason: str) -> None:
        """Leave records unfinished, and so their chunks: the worker that has their partition then reads them again."""
        _log.debug("batch_dropped", stage=self.stage.name, reason=reason, **_span(items))
        self._settle(items, is_done=False)
        self._watchdog.dropped(len(items))

    async def _watch(self) -> None:
        """End the process of a worker that is alive and stuck: it would help nobody."""
        looks = 0
        while True:
            await asyncio.sleep(_CHECK_S)
            looks += 1
            self._watchdog.observe_group(is_assigned=self.ready)
            if not looks % _LAG_EVERY:
                self._watchdog.observe_lag(await self._lag())
            if not looks % _EPOCH_EVERY:
                await self._check_epoch()
                if self.skips is not None:
                    await self.skips.read()
            if self.app.crashed or self.app.consumer.crashed:
                refused = refusal_of(self.app.consumer.crash_reason or self.app.crash_reason)
                _exit(EX_NOPERM if refused else EX_SOFTWARE, str(refused or "Faust crashed"))
            if self._watchdog.is_stuck(_STUCK_S):
                stuck = "stuck: for a minute records were pending and none finished, or the group did not settle"
                _exit(EX_TEMPFAIL, f"{stuck}; {refused}" if (refused := refusal_of(None)) else stuck)
            if place := self._watchdog.standing(_STANDS_S):
                _exit(EX_TEMPFAIL, f"stuck: the position in {place} does not move; its records are read again")

    async def _check_epoch(self) -> None:
        """End the process when the log has lost records since the assignment: its positions are not valid any more."""
        assigned = self.app.consumer.epoch
        with suppress(Unavailable):
            if assigned is not None and await self.epochs.current() != assigned:
                _exit(EX_TEMPFAIL, "the log has lost records; it is read again from its beginning")

    async def _lag(self) -> Mapping[str, Behind] | None:
        """Return the partitions of this worker that lag; None when the broker does not answer."""
        try:
            async with asyncio.timeout(_LAG_EVERY * _CHECK_S):
                behind: Mapping[str, Behind] = await self.app.consumer.behind()
        except Exception:  # whatever the broker or its client has: the next look tells more
            return None
        LAG.labels(self.stage.name).set(sum(each.records for each in behind.values()))
        return behind


def _span(items: Sequence[Item]) -> dict[str, Any]:
    """Return the place of the first record, and how many there are, for the log."""
    first = items[0][1]
    return {"records": len(items), "topic": first.topic, "partition": first.partition, "offset": first.offset}


def _ended(task: asyncio.Task[None]) -> None:
    if task.cancelled() or task.exception() is None:
        return
    cause = task.exception()
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, RetriesExhausted):
        _exit(EX_TEMPFAIL, str(cause))
    else:
        _exit(EX_SOFTWARE, type(cause).__name__, cause)


def _cancelled(task: asyncio.Task[None]) -> None:
    """End a worker that has lost a part: nobody but the worker itself may cancel one."""
    if task.cancelled():
        _exit(EX_SOFTWARE, "a part of the worker was cancelled")


def _exit(code: int, reason: str, bug: BaseException | None = None) -> None:
    """End the process without a commit: what is not acknowledged comes again. The log has the place of a bug."""
    _log.critical("worker_exit", reason=reason, code=code, exc_info=bug)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(code)
