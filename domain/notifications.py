"""Notifications of members."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.messages import Message

NO_NOTIFICATION = "no such notification"


@dataclass(frozen=True, slots=True)
class NotificationDraft:
    """A notification of one recipient; unique by (message, recipient, channel)."""

    notification_id: str
    message_id: str
    conversation_id: str
    seq: int
    user_id: str
    channel: str = "in_app"


@dataclass(frozen=True, slots=True)
class Audience:
    """Members of a conversation who may have to be notified.

    ``delivered``: member → the seq up to which messages reached them, or were said before they joined or last wrote.
    ``collapsed``: the conversation is so large that
    a member is notified of one message only, until that one is seen or delivered.
    """

    delivered: Mapping[str, int]
    collapsed: bool = False


def missed(
    messages: Sequence[Message], user_id: str, audience: Audience, known: Collection[tuple[str, str]]
) -> Sequence[Message]:
    """Return those messages of a conversation that a member who is away is notified of; in a collapsed one the first.

    The messages are in seq order. None is the member's own, none was delivered to a device of the member, and of none
    the member was notified before: ``known`` has those as (message, user).
    """
    due = [
        message
        for message in messages
        if message.seq > audience.delivered[user_id]
        and message.sender_id != user_id
        and (message.message_id, user_id) not in known
    ]
    return due[:1] if audience.collapsed else due


class Notifications(Protocol):
    """Store of in-app notifications."""

    async def member_counts(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        """Return conversation → number of its members, for those that exist. Raises Unavailable."""

    async def audiences(self, newest: Mapping[str, int], each_max_members: int) -> Mapping[str, Audience]:
        """Return conversation → its members to whom not all messages up to the newest seq were delivered.

        A conversation of more than ``each_max_members`` is collapsed: then members are left out who have a
        notification of it that is neither seen nor delivered. Raises Unavailable.
        """

    async def add(self, drafts: Sequence[NotificationDraft]) -> None:
        """Store the drafts that are not stored yet, in the order of each user's inbox: it is that of the commits.

        Members only, and nothing that is read by now. Raises Unavailable.
        """

    async def stored(self, message_ids: Sequence[str]) -> Sequence[NotificationDraft]:
        """Return all notifications of these messages, by conversation, seq and user.

        The result includes those of members who have connected since then: a crash may have kept their event from
        being published. Raises Unavailable.
        """

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of the events of these messages' notifications that were published before.

        Also those that a log has lost since, and those that are older than any log. Raises Unavailable.
        """

    async def unpublished(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of these messages' notifications whose events the log may not have. Raises Unavailable."""

    async def note_published(self, message_ids: Sequence[str]) -> None:
        """Note that the log has the events of all present notifications of these messages. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification as its recipient reads it."""

    notification_id: str
    channel: str
    created_at: datetime
    seen_at: datetime | None
    message: Message


class Inbox(Protocol):
    """The notifications of a user, of conversations that the user is still a member of.

    Their order is the one in which they were stored, so whoever sees one has been shown all that are older. A
    notification is seen once it is marked, and once its message is read.
    """

    async def page(self, user_id: str, *, unseen: bool, before: str | None, limit: int) -> Sequence[Notification]:
        """Return notifications, newest first, before the given one; only those not seen with ``unseen``.

        Raises Unavailable.
        """

    async def mark_seen(self, user_id: str, up_to: str) -> None:
        """Mark this notification and all older ones of the user as seen. Idempotent. Raises NotFound, Unavailable."""
