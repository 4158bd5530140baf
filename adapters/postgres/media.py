"""Uploads in PostgreSQL, and the changes that announce them in their conversations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from adapters.postgres import change_log, rows
from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load
from domain.changes import OutboxEntry, media_entry
from domain.media import Keep, Media, MediaInfo, kept, processed, uploaded
from domain.quotas import MIN_CHARGE, Usage, charge
from schemas.events import MediaProcessed
from schemas.ids import is_uuid
from schemas.messages import Message

_SQL = load("media")
_CONTENTS = 0x46494C45  # "FILE": locks of contents, by their hashes
_COLLECTION = 0x434F4C4C  # "COLL": one ingest collects at a time


@dataclass(frozen=True, slots=True)
class PostgresMedia:
    """MediaFiles for the stage, and Uploads for ingest."""

    pool: Pool

    async def add(self, media: Media, keep: Keep = kept) -> None:
        async with transaction(self.pool) as conn:
            await _share(conn, media.sha256)
            await keep()
            added = await conn.execute(
                _SQL["add"],
                {
                    "media_id": media.media_id,
                    "owner_id": media.owner_id,
                    "file_name": media.file_name,
                    "declared_type": media.declared_type,
                    "size": media.size,
                    "sha256": media.sha256,
                    "charge": charge(media.size),
                },
            )
            if added.rowcount:
                await change_log.owe(conn, [OutboxEntry(0, uploaded(media, datetime.now(UTC)))])

    async def usage(self, owner_id: str) -> Usage:
        stored, today = await self._one("usage", {"owner_id": owner_id}) or (0, 0)
        return Usage(stored, today)

    async def get(self, media_id: str) -> Media | None:
        row = await self._one("get", {"media_id": media_id}) if is_uuid(media_id) else None
        return None if row is None else rows.media(row)

    async def may_read(self, media_id: str, user_id: str) -> bool:
        return await self._one("may_read", {"media_id": media_id, "user_id": user_id}) is not None

    async def save_probe(self, sha256: str, info: MediaInfo, keep: Keep = kept) -> None:
        async with transaction(self.pool) as conn:
            await _share(conn, sha256)
            await keep()
            await conn.execute(
                _SQL["save_probe"],
                {
                    "sha256": sha256,
                    "media_type": info.media_type,
                    "width": info.width,
                    "height": info.height,
                    "duration_ms": info.duration_ms,
                    "blurhash": info.blurhash,
                    "clean": info.clean is not None,
                    "thumbnail": info.thumbnail is not None,
                    "served": info.served,
                    "error": info.error,
                },
            )

    async def ready(self, message: Message, media: Media) -> MediaProcessed:
        place = {
            "conversation_id": message.conversation_id,
            "message_id": message.message_id,
            "media_id": media.media_id,
        }
        async with transaction(self.pool) as conn:
            head = await change_log.lock(conn, message.conversation_id)
            stored = await (await conn.execute(_SQL["place"], place)).fetchone()
            if stored is not None:
                return msgspec.json.decode(stored[0], type=MediaProcessed)
            assert head is not None, "a message is in a conversation"
            at = datetime.now(UTC)
            event = processed(message, media, head + 1, at)
            row = {**place, "seq": event.seq, "event": msgspec.json.encode(event).decode()}
            await conn.execute(_SQL["insert_place"], row)
            await change_log.append(conn, [media_entry(event)], at)
            return event

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["told"], {"messages": list(message_ids)})
            return {row[0] for row in await cursor.fetchall()}

    async def collect(self, older_than_s: float, limit: int) -> Sequence[str]:
        async with transaction(self.pool) as conn:
            if await _first(conn, "begin_collection", {"space": _COLLECTION}) == (True,):
                due = await conn.execute(_SQL["due"], {"older_than_s": older_than_s, "limit": limit})
                if ids := [row[0] for row in await due.fetchall()]:
                    await conn.execute(_SQL["collect"], {"ids": ids, "min_charge": MIN_CHARGE})
            unused = await conn.execute(_SQL["unused"], {"limit": limit})
            return [row[0] for row in await unused.fetchall()]

    async def discard(self, sha256: str, delete: Keep) -> None:
        content = {"sha256": sha256}
        async with transaction(self.pool) as conn:
            if await _first(conn, "own_content", {"space": _CONTENTS, **content}) != (True,):
                return  # an upload of the same bytes is being stored
            if await _first(conn, "is_used", content) is None:
                await delete()
                await conn.execute(_SQL["forget_look"], content)
            await conn.execute(_SQL["forget_unused"], content)

    async def _one(self, name: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL[name], params)
            return await cursor.fetchone() if cursor.description else None


async def _share(conn: Connection, sha256: str) -> None:
    await conn.execute(_SQL["share_content"], {"space": _CONTENTS, "sha256": sha256})


async def _first(conn: Connection, name: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    return await (await conn.execute(_SQL[name], params)).fetchone()
