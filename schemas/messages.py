"""The message, and the change log of a conversation, as everybody outside sees them."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from schemas.fields import (
    MAX_RECORD_LIST,
    BlurhashText,
    ChangeSeq,
    CheckedUuid,
    Count,
    FileName,
    MediaTypeText,
    RecordText,
    StatusText,
    Time,
    TypeText,
    UserId,
    Uuid,
)


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


class Attachment(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file of a message, as it was known when the message was accepted.

    ``type`` is the media type: by content once the file was inspected, as its sender declared it until then. ``width``
    and what follows may come later, with ``media_ready``.
    """

    media_id: CheckedUuid
    name: FileName
    type: MediaTypeText
    size: Count
    width: Count | None = None
    height: Count | None = None
    duration_ms: Count | None = None
    blurhash: BlurhashText | None = None
    thumbnail: bool = False


class Message(Struct, frozen=True, kw_only=True, rename="camel"):
    """Message. ``status`` is the wire name of a Status; times are RFC 3339."""

    message_id: CheckedUuid
    conversation_id: CheckedUuid
    seq: ChangeSeq
    sender_id: UserId
    type: TypeText
    content: RecordText
    attachments: Annotated[tuple[Attachment, ...], Meta(max_length=MAX_RECORD_LIST)] = ()
    reply_to: CheckedUuid | None = None
    created_at: Time
    status: StatusText = "pending"


class ChangeKind(StrEnum):
    """Kinds of entries of a change log that this release knows. Every entry takes one seq, also one of another kind."""

    MESSAGE = "message"
    MEMBER_ADDED = "member_added"
    MEMBER_REMOVED = "member_removed"
    MEDIA_READY = "media_ready"
    MEMBER_INVITED = "member_invited"
    INVITATION_ENDED = "invitation_ended"
    LOST = "lost"
    """In the place of an entry that was lost with the store, and could not be put back."""


class Change(Struct, frozen=True, kw_only=True, rename="camel"):
    """Entry of a change log, keyed by ``(conversation_id, seq)``.

    ``message`` is there for kind MESSAGE; ``data`` (wire names) for all others. ``kind`` is a ChangeKind, or the name
    of one that a later release has added.
    """

    conversation_id: Uuid
    seq: ChangeSeq
    kind: str
    message: Message | None = None
    data: dict[str, Any] = {}
