"""Uploads, the results of their inspection, and files by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from domain.errors import Unavailable
from domain.quotas import Usage
from schemas.clock import wire_time
from schemas.events import MediaProcessed, MediaUploaded
from schemas.fields import MAX_FILE_NAME, MAX_MEDIA_TYPE
from schemas.messages import Attachment, Message

ORIGINAL, CLEAN, THUMBNAIL = PARTS = ("original", "clean", "thumbnail")
"""Parts of a file in the store of files."""
UNKNOWN_TYPE = "application/octet-stream"

Served: TypeAlias = Literal["clean", "original", "none"]
"""Bytes that others than the owner get: a copy without metadata; the original, of a format that carries nothing
personal; or none, since no clean copy can be made."""


def blob(sha256: str, part: str) -> str:
    """Return the name of a part of a file: by content, so that equal files are one."""
    return f"{sha256}/{part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An upload. ``media_type`` and the fields after it are known once the media stage has inspected it."""

    media_id: str
    owner_id: str
    file_name: str
    declared_type: str
    size: int
    sha256: str
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    blurhash: str | None = None
    thumbnail: bool = False
    clean: bool = False
    served: Served | None = None
    error: str | None = None

    @property
    def attachment(self) -> Attachment:
        """Return what a message says of this file: what is known by now."""
        return Attachment(
            media_id=self.media_id,
            name=self.file_name[:MAX_FILE_NAME],
            type=(self.media_type or self.declared_type or UNKNOWN_TYPE)[:MAX_MEDIA_TYPE],
            size=self.size,
            width=self.width,
            height=self.height,
            duration_ms=self.duration_ms,
            blurhash=self.blurhash,
            thumbnail=self.thumbnail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """Result of inspecting a file. ``clean`` and ``thumbnail`` are the bytes to serve; None where there are none.

    ``error`` says in plain words why there is no clean copy.
    """

    media_type: str
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    blurhash: str | None = None
    clean: bytes | None = None
    thumbnail: bytes | None = None
    served: Served = "none"
    error: str | None = None


def inspected(media: Media, info: MediaInfo) -> Media:
    """Return the upload with what its inspection has found."""
    return replace(
        media,
        media_type=info.media_type,
        width=info.width,
        height=info.height,
        duration_ms=info.duration_ms,
        blurhash=info.blurhash,
        thumbnail=info.thumbnail is not None,
        clean=info.clean is not None,
        served=info.served,
        error=info.error,
    )


def uploaded(media: Media, at: datetime) -> MediaUploaded:
    """Return the event of an upload that is complete."""
    return MediaUploaded(
        media_id=media.media_id, owner_id=media.owner_id, size=media.size, at=wire_time(at), sha256=media.sha256
    )


def processed(message: Message, media: Media, seq: int, at: datetime) -> MediaProcessed:
    """Return the event of an attachment that was inspected, under the seq of its entry."""
    return MediaProcessed(
        conversation_id=message.conversation_id,
        seq=seq,
        message_id=message.message_id,
        media_id=media.media_id,
        media_type=media.attachment.type,
        name=media.attachment.name,
        size=media.size,
        width=media.width,
        height=media.height,
        duration_ms=media.duration_ms,
        blurhash=media.blurhash,
        thumbnail=media.thumbnail,
        available=media.served != "none",
        error=media.error,
        at=wire_time(at),
    )


class ProbeInterrupted(Unavailable):
    """The inspection of a file came to no verdict: the machine was too busy, or had no memory left.

    That says nothing about the file, so it is never saved.
    """


Keep: TypeAlias = Callable[[], Awaitable[None]]
"""Stores files. Idempotent. Raises Unavailable."""


async def kept() -> None:
    """Store nothing: the files are there already."""


class MediaFiles(Protocol):
    """Uploads as the media stage inspects them, and the entries that announce them in conversations."""

    async def get(self, media_id: str) -> Media | None:
        """Return the upload, with the result of an inspection of the same bytes; None when there is none.

        Raises Unavailable.
        """

    async def save_probe(self, sha256: str, info: MediaInfo, keep: Keep = kept) -> None:
        """Save a result (without the bytes). Idempotent. Raises Unavailable.

        ``keep`` stores the files that the result names, while nobody deletes files of this content. A content that no
        upload has any more keeps no result.
        """

    async def ready(self, message: Message, media: Media) -> MediaProcessed:
        """Announce an inspected attachment of a message under the conversation's next seq; return the event.

        A repeated call changes nothing and returns the same event. Raises Unavailable.
        """

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of the events that ``ready`` has returned for these messages. Raises Unavailable."""


class Uploads(Protocol):
    """Uploads, and who may read them."""

    async def add(self, media: Media, keep: Keep = kept) -> None:
        """Store a complete upload, count it as its owner's, and owe its event to Kafka. Idempotent.

        ``keep`` stores its file, while nobody deletes files of this content. Raises Unavailable, and what ``keep``
        raises.
        """

    async def usage(self, owner_id: str) -> Usage:
        """Return how many bytes of files the user has stored. Raises Unavailable."""

    async def get(self, media_id: str) -> Media | None:
        """Return the upload, with the result of its inspection. Raises Unavailable."""

    async def may_read(self, media_id: str, user_id: str) -> bool:
        """Return whether the user uploaded it, or may read a message that it is attached to. Raises Unavailable."""

    async def collect(self, older_than_s: float, limit: int) -> Sequence[str]:
        """Delete those of ``limit`` uploads that were complete so long ago and that no message names.

        Each is judged once: one that is attached then is kept for good. Returns the hashes of contents that have lost
        an upload, also by earlier calls, until ``discard`` is through with them. Raises Unavailable.
        """

    async def discard(self, sha256: str, delete: Keep) -> None:
        """Call ``delete``, which deletes the files of a content, unless an upload has it again. Idempotent.

        Raises Unavailable, and what ``delete`` raises; then a later ``collect`` returns the hash again.
        """


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored file or a range of it: its size in bytes, and its content in parts, which are read as they are taken."""

    size: int
    parts: AsyncIterator[bytes]


class Blobs(Protocol):
    """Store of files by name."""

    async def put(self, name: str, content: bytes) -> None:
        """Store a file; a name always has the same content. Raises Unavailable."""

    async def put_file(self, name: str, path: Path) -> None:
        """Store a local file durably under this name; the file itself stays. Idempotent.

        Raises InsufficientStorage, Unavailable.
        """

    async def size(self, name: str) -> int | None:
        """Return the size of the file in bytes; None when there is no such file. Raises Unavailable."""

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        """Return the bytes from ``start`` to ``end`` (not included; None: all that follow), to be read in parts.

        None when there is no such file. The range must lie in the file. Raises Unavailable.

        ``parts`` raises Unavailable, too.
        """

    async def get(self, name: str) -> bytes | None:
        """Return the content; None when there is no such file. Raises Unavailable."""

    async def delete(self, name: str) -> None:
        """Delete the file, if there is one. Idempotent. Raises Unavailable."""
