"""What the stages ask of the store: their effects, each idempotent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.events import MediaProcessed
from schemas.ids import NO_DEVICE
from schemas.messages import Message, Status


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a device of a member has got, as a receipt says."""

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int
    device: str = NO_DEVICE


def furthest(marks: Iterable[Mark]) -> list[Mark]:
    """One mark for each device: the furthest of each kind. Read implies delivered."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for mark in marks:
        key = (mark.conversation_id, mark.user_id, mark.device)
        delivered, read = found.get(key, (0, 0))
        read = max(read, mark.read_seq)
        found[key] = (max(delivered, mark.delivered_seq, read), read)
    return [Mark(conversation, user, *seqs, device) for (conversation, user, device), seqs in found.items()]


def of_members(marks: Iterable[Mark]) -> list[Mark]:
    """One mark for each member: the maximum over the devices."""
    return furthest(replace(mark, device=NO_DEVICE) for mark in marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A watermark that is stored, and whom it concerns."""

    conversation_id: str
    user_id: str
    status: Status
    seq: int
    delivered_seq: int
    read_seq: int
    message_ids: tuple[str, ...]
    notify: tuple[str, ...]


class Statuses(Protocol):
    """Statuses and watermarks in the store."""

    async def mark_sent(self, message_ids: Sequence[str]) -> None:
        """pending → sent; what is further stays. Raises Unavailable."""

    async def fold(self, marks: Sequence[Mark], everybody_up_to: int) -> Sequence[Moved]:
        """Raise the watermarks of devices, and of members to their maximum (never lower, never beyond the head), and
        the statuses of others' messages.

        A mark that is the current watermark is told again, so that a crash before the telling costs nothing; an
        older one is not. Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class Notice:
    """What one recipient is to find. Unique by (message, recipient, channel)."""

    notification_id: str
    message_id: str
    conversation_id: str
    seq: int
    user_id: str
    channel: str = "in_app"


class Notifications(Protocol):
    """In-app notifications in the store."""

    async def members(self, conversation_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """The current members of each conversation, and up to which seq each has it. Raises Unavailable."""

    async def add(self, message_ids: Sequence[str], notices: Sequence[Notice]) -> Sequence[Notice]:
        """Store those that are not there yet; return all notices of these messages, as stored.

        Also those for members who have come back since: a crash may have kept them from being told. Raises
        Unavailable.
        """


@dataclass(frozen=True, slots=True)
class Tick:
    """One message to count."""

    conversation_id: str
    seq: int
    minute: str


@dataclass(frozen=True, slots=True)
class Total:
    """The messages of one conversation and minute."""

    conversation_id: str
    minute: str
    messages: int


class Counts(Protocol):
    """Counts in the store, each conversation with a cursor beside them."""

    async def add(self, ticks: Sequence[Tick]) -> Sequence[Total]:
        """Count what is beyond the conversation's cursor; return the totals of all minutes named.

        Raises Unavailable.
        """


class Index(Protocol):
    """The index in the store."""

    async def put(self, messages: Sequence[Message]) -> None:
        """Make them findable. A row is keyed by message and versioned by seq: idempotent. Raises Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An upload. ``media_type`` and what follows are known once the media stage has looked at it."""

    media_id: str
    owner_id: str
    file_name: str
    declared_type: str
    size: int
    sha256: str
    conversation_id: str | None = None
    media_type: str | None = None
    thumbnail: bool = False
    clean: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file truly is. ``clean`` and ``thumbnail`` are the bytes to serve; None where there are none."""

    media_type: str
    width: int | None = None
    height: int | None = None
    clean: bytes | None = None
    thumbnail: bytes | None = None
    error: str | None = None


class MediaFiles(Protocol):
    """Uploads and their place in conversations."""

    async def get(self, media_id: str) -> Media | None:
        """The upload. Raises Unavailable."""

    async def seen(self, sha256: str) -> Look | None:
        """What was found out before about the same bytes (without the bytes). Raises Unavailable."""

    async def learned(self, sha256: str, look: Look) -> None:
        """Keep it (without the bytes). Idempotent. Raises Unavailable."""

    async def ready(self, message: Message, media: Media, look: Look) -> MediaProcessed:
        """Bind the upload to its message and give the news the conversation's next seq; once, and the same again
        when asked again. Raises Unavailable."""


class Blobs(Protocol):
    """Files by name."""

    async def put(self, name: str, content: bytes) -> None:
        """Store, or replace by the same. Raises Unavailable."""

    async def get(self, name: str) -> bytes | None:
        """The content; None when there is no such file. Raises Unavailable."""
