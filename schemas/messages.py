"""The message, and the change log of a conversation, as everybody outside sees them."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

from msgspec import Struct

from schemas.fields import Seq, StatusText, Time, TypeText, UserId, Uuid


class Status(IntEnum):
    """Status of a message. It only ever moves forward."""

    PENDING = 0
    SENT = 1
    DELIVERED = 2
    READ = 3

    @property
    def wire(self) -> str:
        """The name that clients see."""
        return self.name.lower()


class Message(Struct, frozen=True, kw_only=True, rename="camel"):
    """Message. ``status`` is the wire name of a Status; times are RFC 3339."""

    message_id: Uuid
    conversation_id: Uuid
    seq: Seq
    sender_id: UserId
    type: TypeText
    content: str
    attachments: tuple[Uuid, ...] = ()
    reply_to: Uuid | None = None
    created_at: Time
    status: StatusText = "pending"


class ChangeKind(StrEnum):
    """Kind of an entry of a change log. Every entry takes one seq."""

    MESSAGE = "message"
    MEMBER_ADDED = "member_added"
    MEMBER_REMOVED = "member_removed"
    MEDIA_READY = "media_ready"


class Change(Struct, frozen=True, kw_only=True, rename="camel"):
    """Entry of a change log, keyed by ``(conversation_id, seq)``.

    ``message`` is there for kind MESSAGE; ``data`` (wire names) for all others.
    """

    conversation_id: Uuid
    seq: Seq
    kind: ChangeKind
    message: Message | None = None
    data: dict[str, Any] = {}
