"""Uploads under way: what was announced, and the bytes that have arrived."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec


class BadStore(Exception):
    """The store of files is set wrongly; the text says which setting, and what to do."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as it was announced. ``size``: bytes of the whole file."""

    media_id: str
    owner_id: str
    file_name: str
    declared_type: str
    size: int


def owner_key(owner_id: str) -> str:
    """Return the name under which the uploads of a user are kept, in 32 hexadecimal digits."""
    return hashlib.sha256(owner_id.encode()).hexdigest()[:32]


class UploadWriter(Protocol):
    """The bytes of an upload, held by one request of this process."""

    @property
    def offset(self) -> int:
        """Return how many bytes have arrived."""

    async def append(self, content: bytes) -> None:
        """Write behind what is there. What fits stays, also when not all does.

        Raises InsufficientStorage, Unavailable; Conflict when another ingest was faster.
        """

    async def sync(self) -> None:
        """Make what was written durable. When that fails, ``offset`` is what is durable.

        Raises InsufficientStorage, Unavailable; Conflict when another ingest was faster.
        """

    def whole(self) -> AbstractAsyncContextManager[Path]:
        """Yield all bytes as a local file. Raises InsufficientStorage, Unavailable."""

    async def close(self) -> None:
        """Let others write."""


class UploadStore(Protocol):
    """Uploads under way, which all ingests share."""

    async def create(self, upload: Upload, check: Callable[[Sequence[int]], None]) -> None:
        """Begin an upload. ``check`` gets the sizes of the owner's other uploads under way, and raises to refuse it.

        Raises InsufficientStorage, Unavailable.
        """

    async def find(self, owner_id: str, media_id: str) -> Upload | None:
        """Return the owner's upload; None when there is none. Raises Unavailable."""

    async def arrived(self, upload: Upload) -> int:
        """Return how many bytes have arrived. Raises NotFound, Unavailable."""

    async def open(self, upload: Upload) -> UploadWriter | None:
        """Return the bytes to write to; None while another request holds them. Raises NotFound, Unavailable."""

    async def remove(self, upload: Upload) -> None:
        """Forget an upload. Idempotent. Raises Unavailable."""

    async def remove_abandoned(self, after_s: float) -> None:
        """Delete uploads without a new byte for so long. Raises Unavailable."""
