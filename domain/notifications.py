"""Notifications of members."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
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


def undelivered(
    messages: Sequence[Message], user_id: str, audience: Audience, known: Collection[tuple[str, str]]
) -> Sequence[Message]:
    """Return those messages of a conversation that no device of a member has, and no notification told of.

    None is the member's own. ``known`` has the notifications as (message, user).
    """
    return [
        message
        for message in messages
        if message.seq > audience.delivered[user_id]
        and message.sender_id != user_id
        and (message.message_id, user_id) not in known
    ]


def missed(
    messages: Sequence[Message], user_id: str, audience: Audience, known: Collection[tuple[str, str]]
) -> Sequence[Message]:
    """Return those of the messages, in seq order, of which a member is notified; in a collapsed conversation the first.

    ``known`` as in ``undelivered``.
    """
    found = undelivered(messages, user_id, audience, known)
    return found[:1] if audience.collapsed else found


@dataclass(frozen=True, slots=True)
class Unpublished:
    """Ids of notifications whose events the log of this epoch may not have."""

    ids: Collection[str]
    epoch: int


class Notifications(Protocol):
    """Store of in-app notifications."""

    async def member_counts(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        """Return conversation → number of its members, for those that exist. Raises Unavailable."""

    async def audiences(self, newest: Mapping[str, int], each_max_members: int) -> Mapping[str, Audience]:
        """Return conversation → its members to whom not all messages up to the newest seq were delivered.

        A conversation of more than ``each_max_members`` is collapsed: then members are left out who have a
        notification of it that is neither seen nor delivered. Raises Unavailable.
        """

    async def add(self, drafts: Sequence[NotificationDraft], collapsed: Collection[str] = ()) -> None:
        """Store the drafts that are not stored yet, in the order of each user's inbox: it is that of the commits.

        Members only, and nothing that is read by now. In the ``collapsed`` conversations, at most one draft a member,
        and only for members who have no notification that is neither seen nor delivered, also when two add at the
        same time. Raises Unavailable.
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

    async def unpublished(self, message_ids: Sequence[str]) -> Unpublished:
        """Return these messages' notifications whose events the log may not have. Raises Unavailable."""

    async def note_published(self, notification_ids: Sequence[str], epoch: int) -> None:
        """Note that the log of this epoch has the events of these notifications, and so of all older ones of their
        messages.

        One that was added meanwhile is not noted: whoever has added it writes its event. Nor is anything when the log
        was found to have lost records since: then all are missing. Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class Due:
    """The time of the store, and when its first undecided message is due; None when there is none."""

    at: datetime
    first: datetime | None


class Claim(Protocol):
    """Undecided messages that one worker holds. What it does not settle is there for the next claim, as it was."""

    @property
    def message_ids(self) -> Sequence[str]:
        """The messages, those that have waited for longest first."""

    async def settle(self, message_ids: Sequence[str]) -> None:
        """Forget these messages: all is done about them. Raises Unavailable."""

    async def postpone(self, message_ids: Sequence[str], after_s: float) -> None:
        """Let these messages be due after so many seconds. Raises Unavailable."""


class Undecided(Protocol):
    """Messages that may not have reached some member who looked connected: who needs a notification shows later.

    A row for each message, whatever the number of members.
    """

    async def defer(self, messages: Sequence[Message], after_s: float) -> None:
        """Let these messages be due after so many seconds; one that is undecided already keeps its time.

        Raises Unavailable.
        """

    async def due(self, after: datetime | None = None) -> Due:
        """Return the time of the store, and that at which the first message after ``after`` is due.

        Raises Unavailable.
        """

    def claim(self, until: datetime, limit: int, after: datetime | None = None) -> AbstractAsyncContextManager[Claim]:
        """Hold messages that were due by ``until``, and no other worker holds; a conversation's are with one worker.

        What was due by ``after`` is left out. What was settled or postponed is stored when the block ends without an
        exception. A worker that dies holds nothing. Raises Unavailable.
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
