"""Files of uploads, in a local folder or an object store. Only this module knows obstore."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from domain.errors import InsufficientStorage, Unavailable
from domain.media import Blob

if TYPE_CHECKING:  # obstore has its option types in stubs alone
    from obstore import GetOptions

PART = 256 * 1024
"""Bytes of a file that are in memory while it is read in parts."""


@dataclass(frozen=True, slots=True)
class StoredBlobs:
    """Blobs in an object store, which is a local folder."""

    store: LocalStore
    folder: Path

    async def put(self, name: str, content: bytes) -> None:
        with _store_errors():
            await self.store.put_async(name, content)

    async def put_file(self, name: str, path: Path) -> None:
        with _store_errors():
            await asyncio.to_thread(_link, path, self.folder / name)

    async def size(self, name: str) -> int | None:
        with _store_errors():
            try:
                return (await self.store.head_async(name))["size"]
            except FileNotFoundError:
                return None

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        span: GetOptions = (
            {} if (start, end) == (0, None) else {"range": {"offset": start} if end is None else (start, end)}
        )
        with _store_errors():
            try:
                found = await self.store.get_async(name, options=span)
            except FileNotFoundError:
                return None
            first, last = found.range
            return Blob(last - first, _parts(found))

    async def get(self, name: str) -> bytes | None:
        with _store_errors():
            try:
                found = await self.store.get_async(name)
            except FileNotFoundError:
                return None
            return bytes(await found.bytes_async())

    async def delete(self, name: str) -> None:
        with _store_errors(), suppress(FileNotFoundError):
            await self.store.delete_async(name)


def open_blobs(folder: Path) -> StoredBlobs:
    """Return blobs in a local folder, which is created if need be."""
    return StoredBlobs(LocalStore(prefix=folder, mkdir=True, automatic_cleanup=True), folder)


async def _parts(found: Any) -> AsyncIterator[bytes]:
    with _store_errors():
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


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage("no space is left for uploads; try again later") from exc
        raise Unavailable("the file store does not answer; try again") from exc
