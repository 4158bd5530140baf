"""What the store holds at the end: the side against which clients are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from adapters.postgres.snapshot import Whole


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One stored message. ``digest`` is of its content."""

    message_id: str
    conversation_id: str
    seq: int
    sender_id: str
    key: str | None
    digest: bytes
    status: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the change log."""

    seq: int
    kind: str
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a member has got."""

    user_id: str
    delivered_seq: int
    read_seq: int


@dataclass(slots=True)
class FinalState:
    """One conversation."""

    conversation_id: str
    head: int
    rows: Sequence[StoredMessage] = ()
    entries: Sequence[LogEntry] = ()
    watermarks: Sequence[Watermark] = field(default_factory=tuple)


class Store(Protocol):
    """Where the truth of some conversations is read. All calls raise Unavailable."""

    @property
    def conversation_ids(self) -> Sequence[str]:
        """Which ones."""

    async def heads(self) -> Mapping[str, int]:
        """The last seq of each."""

    async def owed(self) -> tuple[int, int]:
        """How many outbox rows are not published, and how many messages are pending."""

    async def marks(self) -> Sequence[tuple[Any, ...]]:
        """(conversation, user, delivered seq, read seq)."""

    async def statuses(self) -> Mapping[str, int]:
        """Message id → status."""

    async def whole(self) -> Whole:
        """Everything."""


def digest(content: str) -> bytes:
    """By what contents are compared."""
    return sha256(content.encode()).digest()
