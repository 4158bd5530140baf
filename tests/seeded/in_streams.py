"""Bugs of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.seeded.base import bug, every


@bug
def stall_after_a_restart() -> None:
    """Everything is right, and 20 s late, whenever a stage is started again."""
    import asyncio

    from streams.worker import Worker

    run = Worker.run

    async def late(self: Any, stop: Any) -> None:
        started = self.data_dir / f"seeded-{self.stage.name}-started"
        if started.exists():
            await asyncio.sleep(20)
        started.touch()
        await run(self, stop)

    Worker.run = late


@bug
def acknowledge_on_exception() -> None:
    from streams import worker
    from streams.batch import Result

    process, now = worker.process, every(25)

    async def swallowing(stage: Any, batch: Any, log: Any, retry: Any, done: Any, skips: Any) -> None:
        if now():
            done(batch, Result())
        else:
            await process(stage, batch, log, retry, done, skips)

    worker.process = swallowing


def fall(statement: str) -> None:
    """Now and then, after watermarks advance, run the statement on their conversations."""
    from adapters.postgres.pool import connection
    from adapters.postgres.statuses import PostgresStatuses

    advance, now = PostgresStatuses.advance, every(10)

    async def falling(self: Any, marks: Any, *more: Any) -> Any:
        moved = await advance(self, marks, *more)
        if now():
            async with connection(self.pool) as conn:
                await conn.execute(statement, ([mark.conversation_id for mark in marks],))
        return moved

    PostgresStatuses.advance = falling


@bug
def let_a_status_fall() -> None:
    fall("UPDATE messages SET status = 1 WHERE conversation_id = ANY(%s::uuid[]) AND seq = 1")


@bug
def let_a_watermark_fall() -> None:
    fall("UPDATE receipts SET read_seq = 0, delivered_seq = 0 WHERE conversation_id = ANY(%s::uuid[])")


@bug
def ignore_what_was_read() -> None:
    from streams.stages import status

    watermarks_of = status.watermarks_of
    status.watermarks_of = lambda receipts: [replace(mark, read_seq=0) for mark in watermarks_of(receipts)]


@bug
def ignore_answers() -> None:
    from streams.stages import status

    status.receipts_of = lambda answers, at: []


@bug
def set_aside_in_search() -> None:
    from streams.stage import Refused
    from streams.stages.search import HandleSearch

    handle = HandleSearch.__call__

    async def picky(self: Any, events: Any) -> Any:
        if any(event.message.seq % 10 == 0 for event in events):
            return [Refused(event, "too round") for event in events]
        return await handle(self, events)

    HandleSearch.__call__ = picky


@bug
def end_by_itself() -> None:
    import os

    from streams.stages.media import HandleMedia

    handle, now = HandleMedia.__call__, every(30)

    async def mortal(self: Any, events: Any) -> Any:
        if now():
            os._exit(70)
        return await handle(self, events)

    HandleMedia.__call__ = mortal


@bug
def serve_the_original_to_all() -> None:
    from ingest.http import downloads

    stored_part = downloads.stored_part
    downloads.stored_part = lambda media, user, wanted: (
        "original" if wanted == "file" else stored_part(media, user, wanted)
    )


@bug
def count_twice() -> None:
    from adapters.postgres.analytics import PostgresCounts
    from adapters.postgres.pool import connection

    add, now = PostgresCounts.add, every(10)

    async def generous(self: Any, ticks: Any) -> Any:
        totals = await add(self, ticks)
        if now() and ticks:
            async with connection(self.pool) as conn:
                await conn.execute(
                    "UPDATE analytics_minutes SET messages = messages + 1 WHERE conversation_id = %s::uuid",
                    (ticks[0].conversation_id,),
                )
        return totals

    PostgresCounts.add = generous


@bug
def notify_nobody() -> None:
    from adapters.postgres.notifications import PostgresNotifications

    async def nothing(*_: object) -> None:
        pass

    PostgresNotifications.add = nothing


@bug
def notify_who_is_there() -> None:
    from adapters.redis.registry import RedisRegistry

    async def everybody(_: Any, user_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(user_ids)

    RedisRegistry.away = everybody


@bug
def notify_of_everything_in_large_conversations() -> None:
    from adapters.postgres.notifications import PostgresNotifications

    audiences = PostgresNotifications.audiences
    PostgresNotifications.audiences = lambda self, newest, _: audiences(self, newest, 10**6)
