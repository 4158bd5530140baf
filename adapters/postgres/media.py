"""Uploads in PostgreSQL, and the changes that announce them in their conversations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from adapters.postgres import change_log
from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.statements import load
from domain.changes import media_entry
from domain.media import Media, MediaInfo
from domain.quotas import Usage, charge
from schemas.clock import wire_time
from schemas.events import MediaProcessed
from schemas.ids import is_uuid
from schemas.messages import Message

_SQL = load("media")


@dataclass(frozen=True, slots=True)
class PostgresMedia:
    """MediaFiles for the stage, and Uploads for ingest."""

    pool: Pool

    async def add(self, media: Media) -> None:
        await self._one(
            "add",
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

    async def usage(self, owner_id: str) -> Usage:
        stored, today = await self._one("usage", {"owner_id": owner_id}) or (0, 0)
        return Usage(stored, today)

    async def get(self, media_id: str) -> Media | None:
        row = await self._one("get", {"media_id": media_id}) if is_uuid(media_id) else None
        if row is None:
            return None
        id_, owner, name, declared, size, sha256, conversation, media_type, thumbnail, clean = row
        return Media(
            media_id=id_,
            owner_id=owner,
            file_name=name,
            declared_type=declared,
            size=size,
            sha256=sha256,
            conversation_id=conversation,
            media_type=media_type,
            thumbnail=thumbnail,
            clean=clean,
        )

    async def may_read(self, media_id: str, user_id: str) -> bool:
        return await self._one("may_read", {"media_id": media_id, "user_id": user_id}) is not None

    async def find_probe(self, sha256: str) -> MediaInfo | None:
        row = await self._one("find_probe", {"sha256": sha256})
        if row is None:
            return None
        media_type, width, height, error = row
        return MediaInfo(media_type=media_type, width=width, height=height, error=error)

    async def save_probe(self, sha256: str, info: MediaInfo) -> None:
        await self._one(
            "save_probe",
            {
                "sha256": sha256,
                "media_type": info.media_type,
                "width": info.width,
                "height": info.height,
                "clean": info.clean is not None,
                "thumbnail": info.thumbnail is not None,
                "error": info.error,
            },
        )

    async def ready(self, message: Message, media: Media, info: MediaInfo) -> MediaProcessed:
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
            event = MediaProcessed(
                conversation_id=message.conversation_id,
                seq=head + 1,
                message_id=message.message_id,
                media_id=media.media_id,
                media_type=info.media_type,
                width=info.width,
                height=info.height,
                thumbnail=info.error is None and info.width is not None,
                error=info.error,
                at=wire_time(at),
            )
            row = {**place, "seq": event.seq, "event": msgspec.json.encode(event).decode()}
            await conn.execute(_SQL["insert_place"], row)
            await change_log.append(conn, [media_entry(event)], at)
            return event

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["told"], {"messages": list(message_ids)})
            return {row[0] for row in await cursor.fetchall()}

    async def _one(self, name: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL[name], params)
            return await cursor.fetchone() if cursor.description else None
