"""In-app notifications in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from adapters.postgres import rows
from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.replica import Replica, read, rows_of
from adapters.postgres.statements import load
from domain.errors import NotFound
from domain.notifications import NO_NOTIFICATION, Audience, Notification, NotificationDraft, Unpublished
from schemas.ids import first_id

_SQL = load("notifications")
_MARKS_KEPT = timedelta(days=8)
"""Longer than the log keeps a message's record."""


@dataclass(frozen=True, slots=True)
class PostgresNotifications:
    """Notifications for the stage, which writes them, and Inbox for their recipients, who may read a replica."""

    pool: Pool
    replica: Replica | None = None

    async def member_counts(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["member_counts"], {"ids": list(conversation_ids)})
            return dict(await cursor.fetchall())

    async def audiences(self, newest: Mapping[str, int], each_max_members: int) -> Mapping[str, Audience]:
        wanted = {"ids": list(newest), "newest": list(newest.values()), "each_max_members": each_max_members}
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["audiences"], wanted)
            return {
                id_: Audience(dict(zip(users, seqs, strict=True)), collapsed)
                for id_, collapsed, users, seqs in await cursor.fetchall()
            }

    async def add(self, drafts: Sequence[NotificationDraft], collapsed: Collection[str] = ()) -> None:
        columns = {
            "ids": [n.notification_id for n in drafts],
            "users": [n.user_id for n in drafts],
            "conversations": [n.conversation_id for n in drafts],
            "messages": [n.message_id for n in drafts],
            "seqs": [n.seq for n in drafts],
            "channels": [n.channel for n in drafts],
            "collapsed": list(collapsed),
        }
        async with (transaction if collapsed else connection)(self.pool) as conn:
            if collapsed:
                await conn.execute(_SQL["lock_collapsed"], columns)
            await conn.execute(_SQL["add"], columns)

    async def stored(self, message_ids: Sequence[str]) -> Sequence[NotificationDraft]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["stored"], {"messages": list(message_ids)})
            return [NotificationDraft(*row) for row in await cursor.fetchall()]

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        return {id_ for (id_,) in await self._about("told", message_ids)}

    async def unpublished(self, message_ids: Sequence[str]) -> Unpublished:
        found = await self._about("unpublished", message_ids)
        return Unpublished({id_ for id_, _ in found}, max((epoch for _, epoch in found), default=0))

    async def _about(self, name: str, message_ids: Sequence[str]) -> Sequence[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], {"messages": list(message_ids)})).fetchall()

    async def note_published(self, notification_ids: Sequence[str], epoch: int) -> None:
        oldest = first_id(datetime.now(UTC) - _MARKS_KEPT)
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["note_published"], {"ids": list(notification_ids), "epoch": epoch})
            await conn.execute(_SQL["forget_published"], {"oldest": oldest})

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        wanted = {"user_id": user_id, "before": before, "limit": limit}
        statement = _SQL["unseen" if unseen else "page"]
        found = await read(self.pool, self.replica, partial(rows_of, statement, wanted))
        return [Notification(id_, channel, at, seen, rows.message(tuple(m))) for id_, channel, at, seen, *m in found]

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        async with connection(self.pool) as conn:
            found = await (await conn.execute(_SQL["number"], {"user_id": user_id, "up_to": up_to})).fetchone()
            if found is None:
                raise NotFound(NO_NOTIFICATION)
            await conn.execute(_SQL["mark_seen"], {"user_id": user_id, "number": found[0]})
