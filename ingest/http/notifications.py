"""Notifications of the caller."""

from __future__ import annotations

from dataclasses import dataclass

from domain.notifications import Inbox, Notification
from ingest.http.params import id_cursor
from ingest.http.routing import DONE, Answer, Call, Endpoints
from schemas.answers import NotificationEntry, NotificationPage
from schemas.calls import NotificationsQuery, SeenUpTo
from schemas.clock import wire_time


@dataclass(frozen=True, slots=True)
class NotificationEndpoints:
    """Calls about notifications."""

    inbox: Inbox

    def endpoints(self) -> Endpoints:
        return {"listNotifications": self.list, "markNotificationsSeen": self.mark_seen}

    async def list(self, call: Call[NotificationsQuery, None]) -> Answer[NotificationPage]:
        limit, before = call.query.limit, id_cursor(call.query.cursor)
        found = await self.inbox.page(call.user, unseen=call.query.unseen, before=before, limit=limit + 1)
        page = found[:limit]
        following = page[-1].notification_id if len(found) > limit else None
        return Answer(NotificationPage(notifications=tuple(_entry(one) for one in page), next=following))

    async def mark_seen(self, call: Call[None, SeenUpTo]) -> Answer[None]:
        await self.inbox.mark_seen(call.user, call.body.up_to)
        return DONE


def _entry(notification: Notification) -> NotificationEntry:
    return NotificationEntry(
        notification_id=notification.notification_id,
        channel=notification.channel,
        created_at=wire_time(notification.created_at),
        seen_at=wire_time(notification.seen_at) if notification.seen_at else None,
        message=notification.message,
    )
