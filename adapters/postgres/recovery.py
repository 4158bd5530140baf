"""Recovery of a PostgreSQL that went back in time, by its owner, on a connection of its own.

What the log holds and the store lacks is kept in a temporary table, so that its amount is not bounded by memory. Each
conversation comes back in one transaction, under its lock, so ingest may go on meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from msgspec.structs import replace as with_fields

from adapters.postgres import change_log, outbox
from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.outbox import lookup
from adapters.postgres.pool import Connection, Pool, open_pool, open_session
from adapters.postgres.receipts import PostgresReceipts
from adapters.postgres.returned import create, lacking_keys, put_entries, put_uploads
from adapters.postgres.statements import load
from domain.errors import Conflict, Invalid, NotFound
from domain.log_position import Position
from domain.recovery import Entered, Restored, count, distinct, plan
from schemas.codec import decode, encode, key_of
from schemas.events import ConversationChanged, MediaProcessed, MediaUploaded, MessageCreated, ReceiptRecorded

_SQL, _OUTBOX = load("recovery"), load("outbox")
_LOCK = 0x5245434F  # "RECO": one recovery at a time
_UPLOADS = {"uploads": MediaUploaded.TOPIC}

T = TypeVar("T")


@dataclass(slots=True)
class PostgresRecovery:
    """Recovery in PostgreSQL."""

    conn: Connection
    pool: Pool

    async def begin(self) -> None:
        with unavailable_on_outage():
            row = await (await self.conn.execute(_SQL["alone"], {"key": _LOCK})).fetchone()
            if row != (True,):
                raise Conflict("another recovery is under way; wait for its end")
            await self.conn.execute(_SQL["no_hurry"])
            await self.conn.execute(_SQL["prepare"])

    async def noted(self) -> tuple[str, Mapping[str, int]] | None:
        with unavailable_on_outage():
            state = await (await self.conn.execute(_SQL["state"])).fetchone()
            if state is None:
                return None
            ends = await (await self.conn.execute(_OUTBOX["ends"], {"epoch": state[1]})).fetchall()
            return state[0], dict(ends)

    async def keep(self, events: Sequence[Entered | MediaUploaded]) -> None:
        with unavailable_on_outage():
            missing = [*await self._lacking(events), *await self._lacking_uploads(events)]
            if missing:
                columns = {
                    "keys": [key_of(event) for event in missing],
                    "topics": [event.TOPIC for event in missing],
                    "ids": [event.event_id for event in missing],
                    "values": [encode(event) for event in missing],
                }
                await self.conn.execute(_SQL["keep"], columns)

    async def _lacking(self, events: Sequence[Entered | MediaUploaded]) -> list[Entered]:
        """Return the events whose entries the store lacks, in their order."""
        entries = [event for event in events if isinstance(event, MessageCreated | ConversationChanged)]
        files = [event for event in events if isinstance(event, MediaProcessed)]
        found: set[int] = set()
        if entries:
            found |= {
                id(e) for e in await self._select(_OUTBOX["lacking"], {**lookup(entries), "limit": None}, entries)
            }
        if files:
            columns = {"messages": [e.message_id for e in files], "media": [e.media_id for e in files]}
            found |= {id(e) for e in await self._select(_SQL["lacking_media"], columns, files)}
        return [event for event in events if not isinstance(event, MediaUploaded) and id(event) in found]

    async def _lacking_uploads(self, events: Sequence[Entered | MediaUploaded]) -> list[MediaUploaded]:
        uploads = [event for event in events if isinstance(event, MediaUploaded) and event.sha256]
        return await self._select(_SQL["lacking_uploads"], {"media": [e.media_id for e in uploads]}, uploads)

    async def _select(self, statement: Any, columns: Mapping[str, Any], events: Sequence[T]) -> list[T]:
        """Return the events whose places, from 1, the statement returns."""
        if not events:
            return []
        return [events[nth - 1] for (nth,) in await (await self.conn.execute(statement, columns)).fetchall()]

    async def span(self) -> tuple[datetime, datetime] | None:
        with unavailable_on_outage():
            row = await (await self.conn.execute(_SQL["span"])).fetchone()
        return None if row is None or row[0] is None else (row[0], row[1])

    async def lacking(self) -> Sequence[str]:
        with unavailable_on_outage():
            return [row[0] for row in await (await self.conn.execute(_SQL["conversations"], _UPLOADS)).fetchall()]

    async def put_back(self, conversation_id: str, *, dry_run: bool = False) -> Restored:
        with unavailable_on_outage():
            async with self.conn.transaction(force_rollback=dry_run):
                return await self._put_back(conversation_id)

    async def _put_back(self, conversation_id: str) -> Restored:
        kept = await (await self.conn.execute(_SQL["of_conversation"], {"id": conversation_id, **_UPLOADS})).fetchall()
        found: list[Any] = [decode(topic, conversation_id.encode(), value) for topic, value in kept]
        events = distinct(found)
        row = await (await change_log.start_lock(self.conn, [conversation_id])).fetchone()
        made = 0
        if row is None:
            creation = next((e for e in events if isinstance(e, ConversationChanged) and e.kind is None), None)
            if creation is None:
                return Restored(gone=len(events))
            await create(self.conn, creation)
            row, made = (conversation_id, 0, 0), 1
        _, head, messages = row
        await put_uploads(self.conn, events)
        missing = [event for event in await self._lacking(events) if event.seq]  # under the lock
        missing, resent = await lacking_keys(self.conn, missing)
        missing = await self._with_files(missing)
        planned = plan(head, missing, resent)
        if planned.entries:
            await put_entries(self.conn, conversation_id, planned.entries, messages)
            if planned.shared > head:
                share = {"conversation_id": conversation_id, "head": head, "shared": planned.shared}
                await self.conn.execute(_SQL["share"], share)
        numbers = replace(count(planned.entries), created=made, moved=planned.moved, lost=planned.lost)
        return replace(numbers, resent=len(resent))

    async def _with_files(self, events: Sequence[Entered]) -> list[Entered]:
        """Return the events without announcements of files that the store does not have."""
        files = [event for event in events if isinstance(event, MediaProcessed)]
        gone = await self._select(_SQL["lacking_uploads"], {"media": [event.media_id for event in files]}, files)
        return [event for event in events if event not in gone]

    async def put_back_uploads(self, *, dry_run: bool = False) -> int:
        with unavailable_on_outage():
            async with self.conn.transaction(force_rollback=dry_run):
                return await put_uploads(self.conn, None)

    async def record(self, receipt: ReceiptRecorded) -> bool:
        with unavailable_on_outage():
            member = {"conversation_id": receipt.conversation_id, "user_id": receipt.user_id}
            row = await (await self.conn.execute(_SQL["head"], member)).fetchone()
        if row is None or not row[0]:
            return False
        up_to = with_fields(
            receipt, delivered_seq=min(receipt.delivered_seq, row[0]), read_seq=min(receipt.read_seq, row[0])
        )
        try:
            await PostgresReceipts(self.pool).record(up_to)
        except (NotFound, Invalid):
            return False
        return True

    async def republish(self, since: datetime) -> int:
        return await outbox.republish(self.pool, since, None)

    async def note(self, position: Position, epochs: Sequence[str], before: datetime | None) -> None:
        with unavailable_on_outage():
            async with self.conn.transaction():
                state = {"cluster_id": position.cluster_id, "replication": position.replication}
                await self.conn.execute(_OUTBOX["first_note"], state)
                row = await (await self.conn.execute(_OUTBOX["state"])).fetchone()
                if row is not None and row[0] == position.cluster_id:  # else the relay finds out that it is another log
                    ends = {"epoch": row[2], "places": list(position.ends), "ends": list(position.ends.values())}
                    await self.conn.execute(_OUTBOX["note_ends"], ends)
                if before is not None:
                    await self.conn.execute(_SQL["note_epochs"], {"ids": list(epochs), "before": before})


@asynccontextmanager
async def open_recovery(dsn: str) -> AsyncIterator[PostgresRecovery]:
    """Yield a recovery by the owner of the database. Raises Unavailable.

    A server that was just restored may still be starting: the pool, which comes first, waits for it.
    """
    async with open_pool(dsn, size=1) as pool, open_session(dsn) as conn:
        yield PostgresRecovery(conn, pool)
