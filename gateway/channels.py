"""Redis channels, and the envelope that they carry. One function for each name, so that user text never becomes one.

* ``conversation:{id}:messages``  entries of the change log, for sockets that have joined the conversation
* ``conversation:{id}:events``    typing and presence of a user, for the others who have joined it
* ``user:{id}:messages``          hints and watermarks, for sockets of the user
* ``user:{id}:notifications``     notifications, for all sockets of the user
* ``node:{id}``                   requests of operators: see ``schemas.control``
* ``revocations``                 empty: look for new ones in the store

An envelope is ``<kind> <seq> <about> <frame>``: a node routes the frame by the first three and never looks into it.

| kind | seq | about |
|---|---|---|
| one of the change log, ``created`` | its seq | the conversation; in ``…:messages`` the user who came or went |
| ``message_status`` | grows with the watermark | conversation/user |
| ``notification`` | the seq of its message | the conversation |
| ``list_changed`` | 0 | the list: ``conversations`` or ``invitations`` |
| ``typing_started``, ``typing_stopped``, ``presence`` | 0 | the user |
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from domain.revocations import CHANNEL as REVOCATIONS
from schemas.messages import ChangeKind

__all__ = [
    "NOBODY",
    "REVOCATIONS",
    "Envelope",
    "Kind",
    "events",
    "messages",
    "opened",
    "parsed",
    "user_messages",
    "user_notifications",
]

NOBODY = "-"
"""``about`` of an envelope that concerns no single user."""


class Kind(StrEnum):
    """Kinds of envelopes. A node passes on kinds that it does not know."""

    MESSAGE = ChangeKind.MESSAGE
    MEMBER_ADDED = ChangeKind.MEMBER_ADDED
    MEMBER_REMOVED = ChangeKind.MEMBER_REMOVED
    MEDIA_READY = ChangeKind.MEDIA_READY
    MEMBER_INVITED = ChangeKind.MEMBER_INVITED
    INVITATION_ENDED = ChangeKind.INVITATION_ENDED
    CREATED = "created"
    STATUS = "message_status"
    NOTIFICATION = "notification"
    LIST_CHANGED = "list_changed"
    TYPING_STARTED = "typing_started"
    TYPING_STOPPED = "typing_stopped"
    PRESENCE = "presence"


EVERY_SOCKET = frozenset((Kind.STATUS, Kind.NOTIFICATION, Kind.LIST_CHANGED))
"""Kinds for all sockets of a user; others are for those that have not joined the conversation ``about``."""


class Envelope(Struct, frozen=True):
    """A frame with all that a node must know to route it."""

    kind: str
    seq: int
    about: str
    frame: bytes

    def packed(self) -> bytes:
        """Return the bytes that are published."""
        return b"%b %d %b %b" % (self.kind.encode(), self.seq, self.about.encode(), self.frame)


def messages(conversation_id: str) -> str:
    return f"conversation:{conversation_id}:messages"


def events(conversation_id: str) -> str:
    return f"conversation:{conversation_id}:events"


def user_messages(user_id: str) -> str:
    return f"user:{user_id}:messages"


def user_notifications(user_id: str) -> str:
    return f"user:{user_id}:notifications"


def opened(data: bytes) -> Envelope:
    """Return the envelope in these bytes. Raises ValueError when they hold none."""
    kind, seq, about, frame = data.split(b" ", 3)
    if not frame.startswith(b"{"):  # anybody who reaches Redis may publish: clients get JSON objects only
        raise ValueError("an envelope must hold a frame")
    return Envelope(kind.decode(), int(seq), about.decode(), frame)


def parsed(channel: str) -> tuple[str, str, str]:
    """Return (kind, id, topic) of a channel's name. A user id may hold colons, a topic does not."""
    kind, _, rest = channel.partition(":")
    id_, _, topic = rest.rpartition(":")
    return kind, id_, topic
