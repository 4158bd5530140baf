"""Uploads, the results of their inspection, and files by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domain.errors import Unavailable
from domain.quotas import Usage
from schemas.events import MediaProcessed
from schemas.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An upload. ``media_type`` and the fields after it are known once the media stage has inspected it."""

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
class MediaInfo:
    """Result of inspecting a file. ``clean`` and ``thumbnail`` are the bytes to serve; None where there are none."""

    media_type: str
    width: int | None = None
    height: int | None = None
    clean: bytes | None = None
    thumbnail: bytes | None = None
    error: str | None = None


class ProbeInterrupted(Unavailable):
    """The inspection of a file came to no verdict: the machine was too busy, or had no memory left.

    That says nothing about the file, so it is never saved.
    """


class MediaFiles(Protocol):
    """Store of uploads and of their seqs in conversations."""

    async def get(self, media_id: str) -> Media | None:
        """Return the upload; None when there is none. Raises Unavailable."""

    async def find_probe(self, sha256: str) -> MediaInfo | None:
        """Return an earlier result for the same bytes, without the bytes, or None. Raises Unavailable."""

    async def save_probe(self, sha256: str, info: MediaInfo) -> None:
        """Save a result (without the bytes). Idempotent. Raises Unavailable."""

    async def ready(self, message: Message, media: Media, info: MediaInfo) -> MediaProcessed:
        """Bind the upload to its message, under the conversation's next seq; return the event.

        A repeated call changes nothing and returns the same event. Raises Unavailable.
        """

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of the events that ``ready`` has returned for these messages. Raises Unavailable."""


class Uploads(Protocol):
    """Uploads, and who may read them."""

    async def add(self, media: Media) -> None:
        """Store a complete upload, and count it as its owner's. Idempotent. Raises Unavailable."""

    async def usage(self, owner_id: str) -> Usage:
        """Return how many bytes of files the user has stored. Raises Unavailable."""

    async def get(self, media_id: str) -> Media | None:
        """Return the upload. Raises Unavailable."""

    async def may_read(self, media_id: str, user_id: str) -> bool:
        """Return whether the user uploaded it, or is a member where it is attached. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored file: its size in bytes, and its content in parts, which are read as they are taken."""

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

    async def open(self, name: str) -> Blob | None:
        """Return the file, to be read in parts; None when there is no such file. Raises Unavailable.

        ``parts`` raises Unavailable, too.
        """

    async def get(self, name: str) -> bytes | None:
        """Return the content; None when there is no such file. Raises Unavailable."""
