"""Bugs that nobody sees until something breaks: each with the fault under which the checker must find it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from domain.drafts import Draft
from tests.seeded.base import Patch
from tests.seeded.in_ingest import instead_of_intake

STUCK: dict[str, Patch] = {}
"""Troubles that the world makes and no fault can, for tests of what notices them."""
HIDDEN: dict[str, tuple[Patch, str]] = {}
"""Name → the patch, and the faults that bring the bug to light."""


def fetch_nothing() -> None:
    """A live consumer in its group that fetches no record; its watchdog waits for seconds, not for a minute."""
    from streams import worker
    from streams.faust_consumer import StageConsumer

    async def nothing(self: Any, timeout: float) -> Any:
        await asyncio.sleep(timeout)
        return None, None

    StageConsumer._wait_next_records = nothing
    worker._STUCK_S, worker._LAG_EVERY = 6.0, 2


STUCK["fetch-nothing"] = fetch_nothing


def crash_the_consumer() -> None:
    """A task of Faust fails, seconds after the start."""
    from streams.faust_consumer import StageConsumer

    async def fails(self: Any) -> None:
        assert not self.assignment()

    StageConsumer.verify_all_partitions_active = fails


STUCK["crash-the-consumer"] = crash_the_consumer


def hidden(faults: str):
    """Register a bug under its name with dashes, for these faults."""

    def registered(patch: Patch) -> Patch:
        HIDDEN[patch.__name__.replace("_", "-")] = (patch, faults)
        return patch

    return registered


@hidden("kill-status-in-effect")
def acknowledge_before_the_effect() -> None:
    from streams import worker
    from streams.batch import Result

    process = worker.process

    async def hasty(stage: Any, batch: Any, log: Any, retry: Any, done: Any, skips: Any) -> None:
        done(batch, Result())
        await process(stage, batch, log, retry, lambda *_: None, skips)

    worker.process = hasty


@hidden("kill-ingest-in-append")
def mark_before_the_append() -> None:
    from ingest.relay import Relay, _record

    async def publish(self: Any, outbox: Any) -> int:
        await self.loss_detector.ensure_intact(outbox)
        rows = await self._next(outbox)
        if rows:
            await outbox.mark(rows, {})
            await self._append([_record(row, self._epoch) for row in rows])
        return len(rows)

    Relay.publish = publish


@hidden("cut-subscribers-at-end")
def overlook_lost_subscriptions() -> None:
    """Neither is a confirmation after a channel's first a gap, nor are heads compared."""
    from gateway.room_sync import RoomSync

    RoomSync.compare_soon = lambda self: None

    async def never(self: Any) -> None:
        await asyncio.Event().wait()

    RoomSync._compare_heads = never


@hidden("kill-postgres-unflushed")
def answer_before_the_flush() -> None:
    from adapters.postgres import conninfo

    options, hasty = conninfo._options, " -c synchronous_commit=off"
    conninfo._options = lambda *bounds: options(*bounds) + hasty


@hidden("cut-answer-postgres")
def call_the_unknown_failed() -> None:
    from domain.errors import OutcomeUnknown, Unavailable

    async def certain(accept: Any, drafts: Sequence[Draft]) -> Any:
        try:
            return await accept(drafts)
        except OutcomeUnknown as exc:
            raise Unavailable("PostgreSQL does not answer; try again") from exc

    instead_of_intake(certain)
