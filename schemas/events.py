"""The facts that travel through Kafka: past tense, frozen, each with its topic and its key.

Readers ignore fields that they do not know, so that a writer may be deployed first. ``event_id`` is what
readers dedupe by: the same fact published twice carries the same one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from schemas.fields import (
    MAX_RECORD_LIST,
    ChangeSeq,
    ChangeText,
    CheckedSeq,
    CheckedUuid,
    Count,
    Device,
    RecordWords,
    StatusText,
    Time,
    UserId,
)
from schemas.ids import NO_DEVICE
from schemas.messages import ChangeKind, Message

MAX_NAMED = 1_000
"""A first receipt may move thousands of messages, and a record has its bound."""

_Users: TypeAlias = Annotated[tuple[UserId, ...], Meta(max_length=MAX_RECORD_LIST)]
_Ids: TypeAlias = Annotated[tuple[CheckedUuid, ...], Meta(max_length=MAX_RECORD_LIST)]


class MessageCreated(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message was accepted and stored as pending; every stage starts from this.

    ``client_message_id`` and ``body_hash`` (hex) find it when its POST is repeated, also after `millrace recover`.
    """

    TOPIC: ClassVar[str] = "message.created"
    VERSION: ClassVar[int] = 1

    message: Message
    client_message_id: RecordWords | None = None
    body_hash: RecordWords | None = None

    @property
    def conversation_id(self) -> str:
        return self.message.conversation_id

    @property
    def seq(self) -> int:
        return self.message.seq

    @property
    def event_id(self) -> str:
        return self.message.message_id


class MessageSent(Struct, frozen=True, kw_only=True, rename="camel"):
    """The pipeline has taken the message up; carries all that the gateway needs to deliver it."""

    TOPIC: ClassVar[str] = "message.sent"
    VERSION: ClassVar[int] = 1

    message: Message
    sent_at: Time

    @property
    def conversation_id(self) -> str:
        return self.message.conversation_id

    @property
    def event_id(self) -> str:
        return f"{self.message.message_id}:sent"


class ConversationChange(StrEnum):
    """Kind of a change of a conversation. All but the creation are a ChangeKind, too."""

    CREATED = "created"
    MEMBER_ADDED = ChangeKind.MEMBER_ADDED
    MEMBER_REMOVED = ChangeKind.MEMBER_REMOVED
    MEMBER_INVITED = ChangeKind.MEMBER_INVITED
    INVITATION_ENDED = ChangeKind.INVITATION_ENDED


class ConversationChanged(Struct, frozen=True, kw_only=True, rename="camel"):
    """A conversation was created (``seq`` 0, ``change`` "created"), or its members or invitations changed."""

    TOPIC: ClassVar[str] = "conversation.changed"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    seq: CheckedSeq
    change: ChangeText
    """A ConversationChange, or the name of one that a later release has added."""
    user_id: UserId
    """The user who was added, removed or invited; for ``created`` the owner."""
    by: UserId
    at: Time
    title: RecordWords | None = None
    members: _Users = ()
    """The first members, for ``created`` only."""
    invited: _Users = ()
    """Users who were invited when the conversation was created."""
    request_hash: RecordWords | None = None
    """For ``created``: the hash (hex) by which a repeated creation is told apart."""
    hidden_up_to: CheckedSeq = 0
    """For ``member_added``: entries up to there are not for this member."""

    def __post_init__(self) -> None:
        if (self.seq == 0) != (self.change == ConversationChange.CREATED):
            raise ValueError("seq must be 0 for created, and at least 1 for every other change")

    @property
    def event_id(self) -> str:
        return f"{self.conversation_id}:{self.seq}"

    @property
    def kind(self) -> str | None:
        """The kind of the change log's entry; none for ``created``, which has no entry."""
        return None if self.change == ConversationChange.CREATED else self.change


class ReceiptRecorded(Struct, frozen=True, kw_only=True, rename="camel"):
    """A member's device has received or read up to a seq. Watermarks: the next one heals a lost one."""

    TOPIC: ClassVar[str] = "receipt.recorded"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    user_id: UserId
    delivered_seq: CheckedSeq
    read_seq: CheckedSeq = 0
    at: Time
    device: Device = NO_DEVICE

    @property
    def event_id(self) -> str:
        return f"{self.conversation_id}:{self.user_id}:{self.delivered_seq}:{self.read_seq}:{self.device}"


class MessageStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """A member's watermark moved forward, or messages reached a new status through it."""

    TOPIC: ClassVar[str] = "message.status"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    user_id: UserId
    """Whose watermark moved."""
    status: StatusText
    """``delivered`` or ``read``."""
    seq: ChangeSeq
    """The status holds up to this seq."""
    delivered_seq: CheckedSeq
    read_seq: CheckedSeq
    at: Time
    message_ids: _Ids = ()
    """Messages whose own status moved by this; at most MAX_NAMED of them."""
    notify: _Users = ()
    """The senders who are told."""

    @property
    def event_id(self) -> str:
        return f"{self.conversation_id}:{self.user_id}:{self.delivered_seq}:{self.read_seq}:{self.status}"


class NotificationSent(Struct, frozen=True, kw_only=True, rename="camel"):
    """A recipient whom a message did not reach was notified. Carries no content."""

    TOPIC: ClassVar[str] = "notification.sent"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    notification_id: CheckedUuid
    message_id: CheckedUuid
    seq: ChangeSeq
    user_id: UserId
    channel: RecordWords
    at: Time

    @property
    def event_id(self) -> str:
        return f"{self.message_id}:{self.user_id}:{self.channel}"


class MediaUploaded(Struct, frozen=True, kw_only=True, rename="camel"):
    """An upload is complete, and belongs to no conversation yet. Carries neither its name nor its content."""

    TOPIC: ClassVar[str] = "media.uploaded"
    VERSION: ClassVar[int] = 1

    media_id: CheckedUuid
    owner_id: UserId
    size: Count
    at: Time
    sha256: RecordWords | None = None
    """Names the file in the store of files."""

    @property
    def event_id(self) -> str:
        return self.media_id


class MediaProcessed(Struct, frozen=True, kw_only=True, rename="camel"):
    """An attachment was inspected: its true type, its thumbnail; metadata is stripped.

    ``seq`` is its own entry in the change log. ``error`` says why the file has no clean copy; without ``available``
    nobody but its owner gets it.
    """

    TOPIC: ClassVar[str] = "media.processed"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    seq: ChangeSeq
    message_id: CheckedUuid
    media_id: CheckedUuid
    media_type: RecordWords
    name: RecordWords = ""
    size: Count = 0
    width: Count | None = None
    height: Count | None = None
    duration_ms: Count | None = None
    blurhash: RecordWords | None = None
    thumbnail: bool = False
    available: bool = True
    error: RecordWords | None = None
    at: Time

    @property
    def event_id(self) -> str:
        return f"{self.message_id}:{self.media_id}"


class SearchIndexed(Struct, frozen=True, kw_only=True, rename="camel"):
    """The message can be found. Carries no content."""

    TOPIC: ClassVar[str] = "search.indexed"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    message_id: CheckedUuid
    seq: ChangeSeq
    at: Time

    @property
    def event_id(self) -> str:
        return f"{self.message_id}:indexed"


class ConversationCounted(Struct, frozen=True, kw_only=True, rename="camel"):
    """The total of one conversation and minute, as of now; the latest of a (conversation, minute) counts."""

    TOPIC: ClassVar[str] = "analytics.conversation"
    VERSION: ClassVar[int] = 1

    conversation_id: CheckedUuid
    minute: Time
    messages: Count
    at: Time

    @property
    def event_id(self) -> str:
        return f"{self.conversation_id}:{self.minute}:{self.messages}"


AnyEvent: TypeAlias = (
    MessageCreated
    | MessageSent
    | ConversationChanged
    | ReceiptRecorded
    | MessageStatus
    | NotificationSent
    | MediaUploaded
    | MediaProcessed
    | SearchIndexed
    | ConversationCounted
)

EVENTS: tuple[type[AnyEvent], ...] = (
    MessageCreated,
    MessageSent,
    ConversationChanged,
    ReceiptRecorded,
    MessageStatus,
    NotificationSent,
    MediaUploaded,
    MediaProcessed,
    SearchIndexed,
    ConversationCounted,
)
BY_TOPIC: dict[str, type[AnyEvent]] = {event.TOPIC: event for event in EVENTS}
