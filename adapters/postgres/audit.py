"""Store of the audit: reads the facts that it checks, and repairs counts and unpublished events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from adapters.postgres import change_log, rows
from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.outbox import announce
from adapters.postgres.pool import Connection, Pool, open_session, transaction
from adapters.postgres.replica import Replica, Work, read, rows_of
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statements import load
from domain.audit import (
    Found,
    Loose,
    Owing,
    Place,
    Position,
    Row,
    Span,
    StoreFacts,
    Stray,
    Tally,
    Watermark,
)
from domain.changes import OutboxEntry
from domain.retention import BY_DEFAULT, Kept
from schemas.events import MediaProcessed, MessageCreated, NotificationSent
from schemas.ids import first_id, is_uuid

T = TypeVar("T")

_SQL = load("audit")
_LEADER = 0x41554449  # "AUDI"
_MADE_BEFORE = timedelta(minutes=5)
"""Time before its storing at which a message's id may have been made; also bounds how far clocks may differ."""
_DUE = 0.98
"""Part of its time after which a row is no longer looked for: it may be gone any moment."""
_CHUNK = 5_000
_REFRESHED = 500
"""Messages whose rows are locked at a time."""
# Characters that str.strip() takes for blank, as the search stage does.
_BLANK = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@dataclass(frozen=True, slots=True)
class PostgresAudit:
    """AuditStore in PostgreSQL. Every reading is one read-only snapshot, of a replica where there is one."""

    pool: Pool
    kept: Kept = BY_DEFAULT
    replica: Replica | None = None

    async def spans(self, since: datetime, only: Collection[str] | None) -> Sequence[Span]:
        async def work(conn: Connection) -> Sequence[Span]:
            return [Span(*row) for row in await _all(conn, "spans", _window(since, only))]

        return await self._snapshot(work)

    async def facts(self, spans: Sequence[Span]) -> StoreFacts:
        params = {
            "ids": [s.conversation_id for s in spans],
            "starts": [s.start for s in spans],
            "blank": _BLANK,
            "kept_s": _DUE * self.kept.published_events_s,
            "counted_s": _DUE * self.kept.analytics_minutes_s,
        }
        return await self._snapshot(partial(_facts, params, self.kept) if spans else partial(_no_facts, params))

    async def loose(self, since: datetime, grace_s: float, only: Collection[str] | None) -> Loose:
        params = {**_window(since, only), "grace_s": grace_s}

        async def work(conn: Connection) -> Loose:
            return Loose(
                owed=[(row[0], row[1], row[2]) for row in await _all(conn, "owed", params)],
                strays=[
                    Stray(stage, Place(id_, message, conversation, seq))
                    for stage, id_, message, conversation, seq in await _all(conn, "strays", params)
                ],
                uninspected=[row[0] for row in await _all(conn, "uninspected", params)],
            )

        return await self._snapshot(work)

    async def known(self, topic: str, ids: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        statement = {NotificationSent.TOPIC: "known_notifications", MediaProcessed.TOPIC: "known_media"}
        possible = [id_ for id_ in ids if all(map(is_uuid, id_.split(":")))]
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(possible), _CHUNK):
            params = {"ids": possible[start : start + _CHUNK]}
            work = partial(rows_of, _SQL[statement.get(topic, "known_messages")], params)
            rows_ = await read(self.pool, self.replica, work)
            found.update((id_, (conversation, seq)) for id_, conversation, seq in rows_)
        return found

    async def republish(self, message_ids: Sequence[str], grace_s: float) -> int:
        done = 0
        for start in range(0, len(message_ids), _CHUNK):
            async with transaction(self.pool) as conn:
                done += await _republish(conn, message_ids[start : start + _CHUNK], grace_s)
        if done:
            await announce(self.pool)
        return done

    async def refresh(self, message_ids: Sequence[str], grace_s: float) -> int:
        done = 0
        for start in range(0, len(message_ids), _REFRESHED):
            ids = list(message_ids[start : start + _REFRESHED])
            async with transaction(self.pool) as conn:
                found = await _all(conn, "to_refresh", {"ids": ids, "grace_s": grace_s})
                await conn.execute(_SQL["refresh_statuses"], {"ids": [row[0] for row in found]})
            if found:
                await PostgresSearch(self.pool).refresh([row[0] for row in found])
            done += len(found)
        return done

    async def recount(self, conversation_ids: Sequence[str]) -> int:
        changed = 0
        for id_ in conversation_ids:  # one by one: the stage waits for one conversation at a time, not for all
            async with transaction(self.pool) as conn:
                await conn.execute(_SQL["bound"])
                params = {"ids": [id_]}
                await conn.execute(_SQL["hold_cursors"], params)
                await conn.execute(_SQL["lower_cursors"], params)
                changed += await _number(conn, "recount", params)
        return changed

    async def _snapshot(self, work: Work[T]) -> T:
        async def snapshot(conn: Connection) -> T:
            async with conn.transaction():
                await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                await conn.execute(_SQL["bound"])
                return await work(conn)

        return await read(self.pool, self.replica, snapshot)


async def _no_facts(params: Mapping[str, Any], conn: Connection) -> StoreFacts:
    return StoreFacts(now_ms=await _number(conn, "clock", params))


async def _facts(params: Mapping[str, Any], kept: Kept, conn: Connection) -> StoreFacts:
    return StoreFacts(
        now_ms=await _number(conn, "clock", params),
        kept_ms=1000 * _DUE * kept.published_events_s,
        rows=[_row(row) for row in await _all(conn, "rows", params)],
        changes=await _number(conn, "seqs", params),
        holes=[(row[0], row[1]) for row in await _all(conn, "holes", params)],
        stray_changes=[(row[0], row[1]) for row in await _all(conn, "stray_changes", params)],
        untold=[(row[0], row[1]) for row in await _all(conn, "untold", params)],
        repeated_keys=[Place(*row) for row in await _all(conn, "repeated_keys", params)],
        receipts=await _number(conn, "receipts", params),
        watermarks=[Watermark(*row) for row in await _all(conn, "watermarks", params)],
        notifications=[Place(*row) for row in await _all(conn, "notifications", params)],
        media=[Place(*row) for row in await _all(conn, "media", params)],
        tallies=[Tally(*row) for row in await _all(conn, "tallies", params)],
        positions=[Position(*row) for row in await _all(conn, "positions", params)],
        republished={row[0] for row in await _all(conn, "republished", params)},
    )


@dataclass(frozen=True, slots=True)
class Leadership:
    """Lock that makes one audit service the leader. Ends with its connection."""

    conn: Connection

    async def taken(self) -> bool:
        """Take the lock if it is free; return True while it is ours. Raises Unavailable when the connection is gone."""
        with unavailable_on_outage():
            cursor = await self.conn.execute(_SQL["lead"], {"key": _LEADER})
            row = await cursor.fetchone()
            return bool(row and row[0])


@asynccontextmanager
async def open_leadership(dsn: str) -> AsyncIterator[Leadership]:
    """Yield a connection that may come to hold the lock. Raises Unavailable."""
    async with open_session(dsn) as conn:
        yield Leadership(conn)


def _window(since: datetime, only: Collection[str] | None) -> dict[str, Any]:
    oldest = first_id(since - _MADE_BEFORE)
    return {"since": since, "oldest": oldest, "only": None if only is None else list(only)}


async def _all(conn: Connection, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return await (await conn.execute(_SQL[name], params)).fetchall()


async def _number(conn: Connection, name: str, params: Mapping[str, Any]) -> int:
    [[number]] = await _all(conn, name, params)
    return int(number)


def _row(row: tuple[Any, ...]) -> Row:
    id_, conversation, seq, at, status, ahead, behind, digest, text, change, outbox, document, attachments = row
    return Row(
        message_id=id_,
        conversation_id=conversation,
        seq=seq,
        created_ms=at,
        status=status,
        ahead=ahead,
        behind=behind,
        digest=bytes(digest),
        text=text,
        change=change,
        outbox=Owing(outbox),
        document=Found(document),
        attachments=tuple(attachments),
    )


async def _republish(conn: Connection, message_ids: Sequence[str], grace_s: float) -> int:
    found = await _all(conn, "to_republish", {"ids": list(message_ids), "grace_s": grace_s})
    messages = [rows.message((*row[:9], 0)) for row in found]  # pending, as when it was accepted
    if not messages:
        return 0
    columns: dict[str, Any] = {
        "ids": [m.message_id for m in messages],
        "conversations": [m.conversation_id for m in messages],
        "seqs": [m.seq for m in messages],
    }
    await conn.execute(_SQL["note_republished"], columns)
    await change_log.owe_again(conn, [OutboxEntry(m.seq, MessageCreated(message=m)) for m in messages])
    await conn.execute(_SQL["mark_replayed"], columns)
    await conn.execute(_SQL["forget_notices"], columns)
    return len(messages)
