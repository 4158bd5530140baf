"""Notifications of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class NotificationDraft:
    """A notification of one recipient; unique by (message, recipient, channel)."""

    notification_id: str
    message_id: str
    conversation_id: str
    seq: int
    user_id: str
    channel: str = "in_app"


class Notifications(Protocol):
    """Store of in-app notifications."""

    async def members(self, conversation_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Return conversation → current member → the seq up to which messages reached them. Raises Unavailable."""

    async def add(self, message_ids: Sequence[str], drafts: Sequence[NotificationDraft]) -> Sequence[NotificationDraft]:
        """Store the drafts that are not stored yet; return all notifications of these messages, as stored.

        The result includes those of members who have connected since then: a crash may have kept their event from
        being published. Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification as its recipient reads it."""

    notification_id: str
    channel: str
    created_at: datetime
    seen_at: datetime | None
    message: Message


class Inbox(Protocol):
    """The notifications of a user, of conversations that the user is still a member of."""

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        """Return notifications, newest first, before the given one; only those not seen with ``unseen``.

        Raises Unavailable.
        """

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        """Mark this notification and all older ones of the user as seen. Idempotent. Raises Unavailable."""
