"""The final state of the store, against which clients' observations are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from adapters.postgres.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the store. ``digest`` is that of its content."""

    message_id: str
    conversation_id: str
    seq: int
    sender_id: str
    key: str | None
    digest: bytes
    status: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the change log."""

    seq: int
    kind: str
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Watermark:
    """The watermarks of a member."""

    user_id: str
    delivered_seq: int
    read_seq: int


@dataclass(frozen=True, slots=True)
class DeviceWatermark:
    """The watermarks of a member's device."""

    user_id: str
    device: str
    delivered_seq: int
    read_seq: int


@dataclass(frozen=True, slots=True)
class StoredNotification:
    """A notification in the store."""

    notification_id: str
    user_id: str
    message_id: str
    seq: int
    seen: bool


@dataclass(slots=True)
class FinalState:
    """A conversation: its head, messages, change log, watermarks and notifications."""

    conversation_id: str
    head: int
    rows: Sequence[StoredMessage] = ()
    entries: Sequence[LogEntry] = ()
    watermarks: Sequence[Watermark] = field(default_factory=tuple)
    devices: Sequence[DeviceWatermark] | None = None
    """None where only the watermarks of members can be seen."""
    notifications: Sequence[StoredNotification] = ()


class Store(Protocol):
    """Reads the state of some conversations. All calls raise Unavailable."""

    @property
    def conversation_ids(self) -> Sequence[str]:
        """Ids of the conversations."""

    async def heads(self) -> Mapping[str, int]:
        """Return the head of each conversation."""

    async def owed(self) -> tuple[int, int]:
        """Return (number of unpublished outbox rows, number of pending messages)."""

    async def undecided(self) -> int:
        """Return the number of messages about whose notifications nothing is decided yet; 0 where that cannot be
        seen."""

    async def marks(self) -> Sequence[tuple[Any, ...]]:
        """Return (conversation, user, delivered seq, read seq) of each member."""

    async def devices(self) -> Sequence[tuple[Any, ...]] | None:
        """Return (conversation, user, device, delivered seq, read seq) of each device; None where they cannot be
        seen."""

    async def notifications(self) -> Sequence[tuple[Any, ...]]:
        """Return (conversation, notification id, user, message id, seq, seen) of each notification of those who were
        away."""

    async def statuses(self) -> Mapping[str, int]:
        """Return the status of each message id."""

    async def snapshot(self) -> Snapshot:
        """Return all rows, entries, watermarks and notifications, as of one moment where possible."""


def digest(content: str) -> bytes:
    """Return the hash by which contents are compared."""
    return sha256(content.encode()).digest()
