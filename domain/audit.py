"""Facts of the store and of the topics, as an audit reads them. Contents are compared by digest; no body is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

from domain.retention import BY_DEFAULT
from schemas.messages import Attachment, Message


class Owing(StrEnum):
    """State of a message's row in the outbox: not yet published, published, or no longer there."""

    OWED = "owed"
    PUBLISHED = "published"
    GONE = "gone"


class Found(StrEnum):
    """State of what a stage has stored for a message, beside the message itself."""

    THERE = "there"
    MISSING = "missing"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a conversation that the audit's window covers: its messages from seq ``start`` on."""

    conversation_id: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A message as the store has it, with the state of everything that belongs to it."""

    message_id: str
    conversation_id: str
    seq: int
    created_ms: int
    status: int
    ahead: bool = False
    """True when it is delivered or read, though no receipt of another member says so."""
    behind: bool = False
    """True when a receipt of another member says that it is further."""
    digest: bytes
    text: bool = True
    """True when it has text, so that search must find it."""
    change: bool = True
    outbox: Owing = Owing.PUBLISHED
    document: Found = Found.THERE
    attachments: tuple[str, ...] = ()
    """Media ids."""


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a fact in a conversation: its own id and seq, and the message that it is about."""

    id: str
    message_id: str
    conversation_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of messages of one conversation and minute up to the analytics cursor: stored, and counted."""

    conversation_id: str
    minute_ms: int
    stored: int
    counted: int


@dataclass(frozen=True, slots=True)
class Position:
    """Analytics cursor of a conversation, beside its head."""

    conversation_id: str
    cursor: int
    head: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """An impossible receipt: beyond the head, or read beyond delivered."""

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """Facts of the store about some conversations, from one snapshot. ``now_ms`` is the store's clock."""

    now_ms: int
    kept_ms: float = 0.98 * 1000 * BY_DEFAULT.published_events_s
    """Age up to which an outbox row must exist."""
    rows: Sequence[Row] = ()
    changes: int = 0
    """Number of seqs that the change log must have."""
    holes: Sequence[tuple[str, int]] = ()
    """Pairs (conversation, seq) without an entry in the change log."""
    stray_changes: Sequence[tuple[str, int]] = ()
    """Pairs (conversation, seq) of entries beyond the head, or of a message that does not exist."""
    untold: Sequence[tuple[str, int]] = ()
    """Pairs (conversation, seq) of membership changes without an outbox row, though rows of that age are kept."""
    repeated_keys: Sequence[Place] = ()
    """Messages that share their sender's idempotency key with an earlier one."""
    receipts: int = 0
    watermarks: Sequence[Watermark] = ()
    notifications: Sequence[Place] = ()
    media: Sequence[Place] = ()
    """``id`` is ``messageId:mediaId``."""
    tallies: Sequence[Tally] = ()
    positions: Sequence[Position] = ()
    republished: Collection[str] = ()
    """Ids of messages that an audit made the relay publish again; their records stand late in the topics."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A fact that a stage has stored about a message that does not exist."""

    stage: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """Facts that belong to no span: unpublished rows, uploads, and what stages keep about unknown messages."""

    owed: Sequence[tuple[str, int, str]] = ()
    """Triples (conversation, seq, topic) of unpublished outbox rows that are older than the grace."""
    strays: Sequence[Stray] = ()
    uninspected: Sequence[str] = ()
    """Ids of uploads that are older than the grace, and that the media stage has not inspected."""


@dataclass(frozen=True, slots=True)
class LogBegin:
    """Offset from which to read a partition. Records from before ``first_ms`` (Unix ms) are not in the log any more."""

    offset: int
    first_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Begins:
    """Begins of the partitions of each topic, by partition number."""

    topics: Mapping[str, Sequence[LogBegin]] = field(default_factory=dict)

    def of(self, topic: str, partition: int) -> LogBegin | None:
        """Return the begin of one partition; None when the topic has fewer."""
        begins = self.topics[topic]
        return begins[partition] if partition < len(begins) else None


class AuditStore(Protocol):
    """Store, as an audit reads and repairs it. ``only`` restricts a call to these conversations; None to none."""

    async def spans(self, since: datetime, only: Collection[str] | None) -> Sequence[Span]:
        """Return the conversations with changes since then. Raises Unavailable."""

    async def facts(self, spans: Sequence[Span]) -> StoreFacts:
        """Return the facts of these spans, from one snapshot. Raises Unavailable."""

    async def loose(self, since: datetime, grace_s: float, only: Collection[str] | None) -> Loose:
        """Return unpublished rows older than the grace, and facts without their message. Raises Unavailable."""

    async def known(self, topic: str, ids: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        """Return id → (conversation, seq) for those ids of a topic that the store has. Raises Unavailable."""

    async def republish(self, message_ids: Sequence[str], grace_s: float) -> int:
        """Mark the outbox rows of these messages as unpublished; return the number of rows.

        Messages younger than the grace and rows that are unpublished anyway are left alone; a row that is gone is
        inserted again. Raises Unavailable.
        """

    async def refresh(self, message_ids: Sequence[str], grace_s: float) -> int:
        """Set the statuses and the search documents of these messages to what the store says; return their number.

        A status becomes that of the receipts, also when it must fall for it. Messages younger than the grace are left
        alone. Raises Unavailable.
        """

    async def recount(self, conversation_ids: Sequence[str]) -> int:
        """Set the counts of these conversations to what the store has up to the analytics cursor.

        A cursor beyond the head is set back to the head. Returns the number of minutes that changed. Raises
        Unavailable.
        """


def digest(message: Message) -> bytes:
    """Return the digest of all fields that never change (all but the status); ``audit.sql`` computes the same."""
    fields = (
        message.message_id,
        message.conversation_id,
        str(message.seq),
        message.sender_id,
        message.type,
        message.content,
        ",".join(map(_file, message.attachments)),
        message.reply_to or "",
        message.created_at,
    )
    return sha256("\x1f".join(fields).encode()).digest()[:16]


def _file(attachment: Attachment) -> str:
    fields = (
        attachment.media_id,
        attachment.name,
        attachment.type,
        attachment.size,
        attachment.width,
        attachment.height,
        attachment.duration_ms,
        attachment.blurhash,
    )
    thumbnail = "true" if attachment.thumbnail else "false"
    return "\x1e".join([*("" if value is None else str(value) for value in fields), thumbnail])
