"""Uploads, what is found out about them, and files by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.events import MediaProcessed
from schemas.messages import Message


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
