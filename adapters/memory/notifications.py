"""Twin of the notifications that a user reads."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.memory.effects import MemoryNotifications
from domain.notifications import Notification, NotificationDraft


@dataclass(slots=True)
class MemoryInbox:
    """Inbox over the notifications that the stage has stored."""

    notifications: MemoryNotifications

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        found = sorted(self._of(user_id), key=lambda notice: notice.notification_id, reverse=True)
        return [
            self._notification(notice)
            for notice in found
            if (before is None or notice.notification_id < before)
            and not (unseen and notice.notification_id in self.notifications.seen)
        ][:limit]

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        for notice in self.notifications.drafts.values():
            if notice.user_id == user_id and notice.notification_id <= up_to:
                self.notifications.seen.setdefault(notice.notification_id, datetime.now(UTC))

    def _of(self, user_id: str) -> list[NotificationDraft]:
        is_readable = self.notifications.tables.is_readable
        return [
            notice
            for notice in self.notifications.drafts.values()
            if notice.user_id == user_id and is_readable(notice.conversation_id, notice.seq, user_id)
        ]

    def _notification(self, notice: NotificationDraft) -> Notification:
        return Notification(
            notice.notification_id,
            notice.channel,
            datetime.fromtimestamp((uuid.UUID(notice.notification_id).int >> 80) / 1000, UTC),
            self.notifications.seen.get(notice.notification_id),
            self.notifications.tables.messages[notice.message_id],
        )
