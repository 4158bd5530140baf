"""What an audit reads: facts of the store and of the topics. Never a body: contents are compared by digest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

from schemas.messages import Message


class Owing(StrEnum):
    """What the outbox says of a message."""

    OWED = "owed"
    PUBLISHED = "published"
    GONE = "gone"


class Found(StrEnum):
    """What a stage left of a message."""

    THERE = "there"
    MISSING = "missing"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Span:
    """What a window covers of a conversation: its messages from seq ``start`` on."""

    conversation_id: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A message as the store has it, with what stands beside it."""

    message_id: str
    conversation_id: str
    seq: int
    created_ms: int
    status: int
    ahead: bool = False
    """Delivered or read, and no receipt of another member says so."""
    digest: bytes
    text: bool = True
    """Whether it says anything, and so must be found by search."""
    change: bool = True
    outbox: Owing = Owing.PUBLISHED
    document: Found = Found.THERE
    attachments: tuple[str, ...] = ()
    """Those whose uploads exist."""


@dataclass(frozen=True, slots=True)
class Place:
    """Something in a conversation: what it is, the message that it is about, and its own seq."""

    id: str
    message_id: str
    conversation_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Messages of one conversation and minute up to the stage's cursor: as the store has them, as counted."""

    conversation_id: str
    minute_ms: int
    stored: int
    counted: int


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which seq a conversation was counted, and its head."""

    conversation_id: str
    cursor: int
    head: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """A receipt that cannot be: beyond the head, or read beyond delivered."""

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """All that the store says of some conversations, in one snapshot. ``now_ms`` is the store's clock."""

    now_ms: int
    rows: Sequence[Row] = ()
    changes: int = 0
    """How many seqs there must be."""
    holes: Sequence[tuple[str, int]] = ()
    """(conversation, seq) without an entry in the change log."""
    stray_changes: Sequence[tuple[str, int]] = ()
    """Beyond the head, or of a message that is not there."""
    untold: Sequence[tuple[str, int]] = ()
    """Changes of membership whose outbox row is not there, though it would still be kept."""
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
    """Messages that an audit handed to the relay again: their place in the topics is a late one."""


@dataclass(frozen=True, slots=True)
class Stray:
    """What a stage keeps about a message that is not there."""

    stage: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """What belongs to no single conversation's facts."""

    owed: Sequence[tuple[str, int, str]] = ()
    """(conversation, seq, topic) of rows older than the grace that are not published."""
    strays: Sequence[Stray] = ()


@dataclass(frozen=True, slots=True)
class LogBegin:
    """Where to read a partition for a window. What is older than ``first_ms`` was there before the log's begin."""

    offset: int
    first_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Begins:
    """Of each topic, its partitions' begins by their numbers."""

    topics: Mapping[str, Sequence[LogBegin]] = field(default_factory=dict)

    def of(self, topic: str, partition: int) -> LogBegin:
        """One partition's begin."""
        return self.topics[topic][partition]


class AuditStore(Protocol):
    """The store, as an audit reads and mends it."""

    async def spans(self, since: datetime, only: Collection[str] | None) -> Sequence[Span]:
        """The conversations with changes since then. Raises Unavailable."""

    async def facts(self, spans: Sequence[Span]) -> StoreFacts:
        """What stands in them. Raises Unavailable."""

    async def loose(self, since: datetime, grace_s: float, only: Collection[str] | None) -> Loose:
        """What owes and what belongs to nothing. Raises Unavailable."""

    async def known(self, topic: str, ids: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        """(conversation, seq) of those ids of a topic that the store has, whenever made. Raises Unavailable."""

    async def republish(self, message_ids: Sequence[str], grace_s: float) -> int:
        """Let the relay publish these messages again; return how many. Younger ones and those that the relay owes
        anyway are left alone; an outbox row that is gone is made anew. Raises Unavailable."""

    async def recount(self, conversation_ids: Sequence[str]) -> int:
        """Bring the counts of these conversations to what the store has, up to the stage's cursor, which is brought
        back to the head; return how many minutes changed. Raises Unavailable."""


def digest(message: Message) -> bytes:
    """Of all that a message says for good, so of everything but its status; ``audit.sql`` makes the same."""
    said = (
        message.message_id,
        message.conversation_id,
        str(message.seq),
        message.sender_id,
        message.type,
        message.content,
        ",".join(message.attachments),
        message.reply_to or "",
        message.created_at,
    )
    return sha256("\x1f".join(said).encode()).digest()[:16]
