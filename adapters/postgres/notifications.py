"""In-app notifications in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres import rows
from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.statements import load
from domain.notifications import Notification, NotificationDraft

_SQL = load("notifications")


@dataclass(frozen=True, slots=True)
class PostgresNotifications:
    """Notifications for the stage, which writes them, and Inbox for their recipients."""

    pool: Pool

    async def members(self, conversation_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["members"], {"ids": list(conversation_ids)})
            return {id_: dict(zip(users, seqs, strict=True)) for id_, users, seqs in await cursor.fetchall()}

    async def add(self, message_ids: Sequence[str], drafts: Sequence[NotificationDraft]) -> Sequence[NotificationDraft]:
        columns = {
            "ids": [n.notification_id for n in drafts],
            "users": [n.user_id for n in drafts],
            "conversations": [n.conversation_id for n in drafts],
            "messages": [n.message_id for n in drafts],
            "seqs": [n.seq for n in drafts],
            "channels": [n.channel for n in drafts],
        }
        async with transaction(self.pool) as conn:
            if drafts:
                await conn.execute(_SQL["add"], columns)
            cursor = await conn.execute(_SQL["stored"], {"messages": list(message_ids)})
            return [NotificationDraft(*row) for row in await cursor.fetchall()]

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        wanted = {"user_id": user_id, "unseen": unseen, "before": before, "limit": limit}
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["page"], wanted)
            found = await cursor.fetchall()
        return [Notification(id_, channel, at, seen, rows.message(tuple(m))) for id_, channel, at, seen, *m in found]

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["mark_seen"], {"user_id": user_id, "up_to": up_to})
