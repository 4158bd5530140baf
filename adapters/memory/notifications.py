"""Twin of the notifications that a user reads."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.memory.effects import MemoryNotifications
from domain.errors import NotFound
from domain.notifications import NO_NOTIFICATION, Notification, NotificationDraft


@dataclass(slots=True)
class MemoryInbox:
    """Inbox over the notifications that the stage has stored: their order is that of the dictionary."""

    notifications: MemoryNotifications

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        found = self._of(user_id)
        older = found if before is None else self._up_to(user_id, before)[:-1]
        is_readable, seen_at = self.notifications.tables.is_readable, self.notifications.seen_at
        return [
            self._notification(notice)
            for notice in reversed(older)
            if is_readable(notice.conversation_id, notice.seq, user_id) and not (unseen and seen_at(notice))
        ][:limit]

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        older = self._up_to(user_id, up_to)
        if not older:
            raise NotFound(NO_NOTIFICATION)
        for notice in older:
            self.notifications.seen.setdefault(notice.notification_id, datetime.now(UTC))

    def _of(self, user_id: str) -> list[NotificationDraft]:
        return [notice for notice in self.notifications.drafts.values() if notice.user_id == user_id]

    def _up_to(self, user_id: str, notification_id: str) -> list[NotificationDraft]:
        """Return this notification of the user and all older ones, oldest first; none when the user has no such one."""
        found = self._of(user_id)
        ids = [notice.notification_id for notice in found]
        return found[: ids.index(notification_id) + 1] if notification_id in ids else []

    def _notification(self, notice: NotificationDraft) -> Notification:
        return Notification(
            notice.notification_id,
            notice.channel,
            datetime.fromtimestamp((uuid.UUID(notice.notification_id).int >> 80) / 1000, UTC),
            self.notifications.seen_at(notice),
            self.notifications.tables.messages[notice.message_id],
        )
