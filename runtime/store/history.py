"""The change log and the members of conversations, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.store import rows
from runtime.store.pool import Pool, connection
from runtime.store.statements import load
from schemas.ids import is_uuid
from schemas.messages import Change, ChangeKind

_SQL = load("history")


@dataclass(frozen=True, slots=True)
class PostgresHistory:
    """A History on the primary. Ids that are no UUIDs are simply not there."""

    pool: Pool

    async def is_member(self, conversation_id: str, user_id: str) -> bool:
        if not is_uuid(conversation_id):
            return False
        wanted = {"conversation_id": conversation_id, "user_id": user_id}
        return bool(await self._all("is_member", wanted))

    async def members(self, conversation_id: str) -> Sequence[str]:
        return [row[0] for row in await self._all("members", {"conversation_id": conversation_id})]

    async def heads(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        if not conversation_ids:
            return {}
        return {row[0]: row[1] for row in await self._all("heads", {"ids": list(conversation_ids)})}

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        wanted = {"conversation_id": conversation_id, "after": after, "up_to": up_to, "limit": limit}
        return [_change(row) for row in await self._all("changes", wanted)]

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        if not is_uuid(message_id):
            return None
        found = await self._all("place_of", {"message_id": message_id})
        return (found[0][0], found[0][1]) if found else None

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[str]:
        wanted = {"user_id": user_id, "max_members": max_members}
        return [row[0] for row in await self._all("small_conversations", wanted)]

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL[name], params)
            return await cursor.fetchall()


def _change(row: tuple[Any, ...]) -> Change:
    conversation_id, seq, kind, data, message_id, *rest = row
    return Change(
        conversation_id=conversation_id,
        seq=seq,
        kind=ChangeKind(kind),
        message=rows.message((message_id, conversation_id, seq, *rest)) if message_id else None,
        data=data or {},
    )
