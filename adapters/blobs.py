"""Files of uploads, in a local folder or in S3."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.store import LocalStore

from adapters.object_store import Store, store_errors
from domain.media import Blob

if TYPE_CHECKING:  # obstore has its option types in stubs alone
    from obstore import GetOptions

PART = 256 * 1024
"""Bytes of a file that are in memory while it is read in parts from a disk."""
RANGE = 1024 * 1024
"""The same for S3, where each part is a request."""


@dataclass(frozen=True, slots=True)
class ObjectBlobs:
    """Blobs in an object store. A file is read range by range: a slow reader holds no connection to the store."""

    store: Store

    async def put(self, name: str, content: bytes) -> None:
        with store_errors():
            await self.store.put_async(name, content)

    async def put_file(self, name: str, path: Path) -> None:
        if await self.size(name) is None:
            with store_errors():
                await self.store.put_async(name, path)

    async def size(self, name: str) -> int | None:
        with store_errors():
            try:
                return (await self.store.head_async(name))["size"]
            except FileNotFoundError:
                return None

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        size = await self.size(name)
        if size is None:
            return None
        end = size if end is None else end
        return Blob(end - start, self._ranges(name, start, end))

    async def get(self, name: str) -> bytes | None:
        with store_errors():
            try:
                found = await self.store.get_async(name)
            except FileNotFoundError:
                return None
            return bytes(await found.bytes_async())

    async def delete(self, name: str) -> None:
        with store_errors(), suppress(FileNotFoundError):
            await self.store.delete_async(name)

    async def _ranges(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        for first in range(start, end, RANGE):
            with store_errors():
                part = await self.store.get_range_async(name, start=first, end=min(end, first + RANGE))
            yield bytes(part)


@dataclass(frozen=True, slots=True)
class FolderBlobs(ObjectBlobs):
    """Blobs in a local folder: a complete upload gets its place by a link, a download reads one open file."""

    folder: Path

    async def put_file(self, name: str, path: Path) -> None:
        with store_errors():
            await asyncio.to_thread(_link, path, self.folder / name)

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        span: GetOptions = (
            {} if (start, end) == (0, None) else {"range": {"offset": start} if end is None else (start, end)}
        )
        with store_errors():
            try:
                found = await self.store.get_async(name, options=span)
            except FileNotFoundError:
                return None
            first, last = found.range
            return Blob(last - first, _parts(found))


def open_folder_blobs(folder: Path) -> FolderBlobs:
    """Return blobs in a local folder, which is created if need be."""
    return FolderBlobs(LocalStore(prefix=folder, mkdir=True, automatic_cleanup=True), folder)


async def _parts(found: Any) -> AsyncIterator[bytes]:
    with store_errors():
        async for part in found.stream(min_chunk_size=PART):
            yield bytes(part)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name, which costs no space, and make it durable."""
    with suppress(FileExistsError):
        name.parent.mkdir()
        _sync(name.parent.parent)
    with suppress(FileExistsError):  # the same content, of another upload
        os.link(path, name)
    _sync(name.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
