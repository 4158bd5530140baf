"""Uploads under way in an object store: any ingest takes the next part, and no disk is shared.

``uploads/OWNER/ID/meta-SIZE`` says what was announced, ``uploads/OWNER/ID/OFFSET`` holds the bytes from there. A part
is created on condition that there is none at its offset: of two ingests that write at the same place one succeeds. The
offset of an upload is where its parts, one behind the other, end.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
from obstore.exceptions import AlreadyExistsError

from adapters.object_store import Store, store_errors
from domain.errors import Conflict, MillraceError, NotFound, Unavailable
from domain.uploads import Upload, owner_key

PART = 4 * 1024 * 1024
"""Bytes of a body after which they are stored, while more is awaited."""
_ROOT = "uploads/"
_META = "meta-"
_DIGITS = 12
_NONE = "no such upload by this user"
_TAKEN = "another request writes to this upload; ask for its offset with HEAD and go on from there"


@dataclass(slots=True, eq=False)
class ObjectWriter:
    """The bytes of an upload. Those of this request wait in a local file until a part is full."""

    store: Store
    upload: Upload
    stored: int
    """Bytes that are in the store."""
    spool: IO[bytes]
    release: Callable[[], None]
    _begun: int = field(init=False)
    _spooled: int = 0
    _is_open: bool = True

    def __post_init__(self) -> None:
        self._begun = self.stored

    @property
    def offset(self) -> int:
        return self._begun + self._spooled

    async def append(self, content: bytes) -> None:
        with store_errors():
            await asyncio.to_thread(self._spool, content)
        while self.offset - self.stored >= PART:
            await self._store(PART)

    async def sync(self) -> None:
        if self.offset > self.stored:
            await self._store(self.offset - self.stored)

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Path]:
        if not self._begun:  # all of it came by this request
            yield Path(self.spool.name)
            return
        with store_errors():
            file = tempfile.NamedTemporaryFile()  # noqa: SIM115
        try:
            await self._read_into(file)
            yield Path(file.name)
        finally:
            file.close()

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.spool.close()
            self.release()

    def _spool(self, content: bytes) -> None:
        self.spool.seek(self._spooled)
        self.spool.write(content)
        self.spool.flush()
        self._spooled += len(content)

    async def _store(self, size: int) -> None:
        """Store the next bytes as a part; when that fails, forget what is not stored."""
        name = f"{_folder(self.upload.owner_id, self.upload.media_id)}{self.stored:0{_DIGITS}}"
        try:
            with store_errors():
                content = await asyncio.to_thread(self._spooled_from, self.stored - self._begun, size)
                try:
                    await self.store.put_async(name, content, mode="create", use_multipart=False)
                except AlreadyExistsError as exc:
                    raise Conflict(_TAKEN) from exc
        except MillraceError:
            self._spooled = self.stored - self._begun
            raise
        self.stored += size

    def _spooled_from(self, start: int, size: int) -> bytes:
        self.spool.seek(start)
        return self.spool.read(size)

    async def _read_into(self, file: IO[bytes]) -> None:
        """Write the parts of the store to a local file, one behind the other."""
        at = 0
        for name, size in _parts(await _names(self.store, _folder(self.upload.owner_id, self.upload.media_id))):
            with store_errors():
                content = await (await self.store.get_async(name)).bytes_async()
                await asyncio.to_thread(file.write, content)
            at += size
        if at != self.offset:  # another ingest has completed the upload, and is deleting its parts
            raise Unavailable("the upload is being completed by another request; try again")
        with store_errors():
            await asyncio.to_thread(file.flush)


@dataclass(slots=True)
class ObjectUploads:
    """UploadStore in an object store."""

    store: Store
    clock: Callable[[], float] = time.time
    _held: set[str] = field(default_factory=set)
    """Media ids of the uploads that requests of this process write to."""
    _creating: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def create(self, upload: Upload, check: Callable[[Sequence[int]], None]) -> None:
        owner = upload.owner_id
        async with self._turn_of(owner):
            # Stored before the others are counted: of two ingests at least one sees the other.
            with store_errors():
                await self.store.put_async(
                    _meta(upload), msgspec.json.encode(upload), mode="create", use_multipart=False
                )
            try:
                names = await _names(self.store, f"{_ROOT}{owner_key(owner)}/")
                check([_size(name) for name in names if _is_meta(name) and name != _meta(upload)])
            except BaseException:  # cancelled, too: the upload would count against its owner
                await self.remove(upload)
                raise

    @asynccontextmanager
    async def _turn_of(self, owner_id: str) -> AsyncIterator[None]:
        """Hold the right to create an upload of this user in this process."""
        lock = self._creating.setdefault(owner_id, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._creating.pop(owner_id, None)

    async def find(self, owner_id: str, media_id: str) -> Upload | None:
        for name in filter(_is_meta, await _names(self.store, _folder(owner_id, media_id))):
            with store_errors():
                try:
                    content = await (await self.store.get_async(name)).bytes_async()
                except FileNotFoundError:
                    return None
            return msgspec.json.decode(bytes(content), type=Upload)
        return None

    async def arrived(self, upload: Upload) -> int:
        names = await _names(self.store, _folder(upload.owner_id, upload.media_id))
        if _meta(upload) not in names:
            raise NotFound(_NONE)
        return sum(size for _, size in _parts(names))

    async def open(self, upload: Upload) -> ObjectWriter | None:
        media_id = upload.media_id
        if media_id in self._held:
            return None
        self._held.add(media_id)
        try:
            stored = await self.arrived(upload)
            with store_errors():
                spool = tempfile.NamedTemporaryFile()  # noqa: SIM115
        except BaseException:
            self._held.discard(media_id)
            raise
        return ObjectWriter(self.store, upload, stored, spool, lambda: self._held.discard(media_id))

    async def remove(self, upload: Upload) -> None:
        await self._remove(_folder(upload.owner_id, upload.media_id))

    async def remove_abandoned(self, after_s: float) -> None:
        written: dict[str, float] = {}
        with store_errors():
            async for page in self.store.list(_ROOT):
                for each in page:
                    folder = f"{each['path'].rpartition('/')[0]}/"
                    written[folder] = max(written.get(folder, 0.0), each["last_modified"].timestamp())
        for folder, at in written.items():
            if at < self.clock() - after_s:
                await self._remove(folder)

    async def _remove(self, folder: str) -> None:
        names = await _names(self.store, folder)
        with store_errors():
            # What was announced goes first: without it the upload is not found any more.
            for name in sorted(names, key=_is_meta, reverse=True):
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        try:
            await self.store.delete_async(name)
        except FileNotFoundError:
            return


def _folder(owner_id: str, media_id: str) -> str:
    return f"{_ROOT}{owner_key(owner_id)}/{media_id}/"


def _meta(upload: Upload) -> str:
    return f"{_folder(upload.owner_id, upload.media_id)}{_META}{upload.size}"


def _is_meta(name: str) -> bool:
    return name.rpartition("/")[2].startswith(_META)


def _size(meta: str) -> int:
    """Return the size of the whole file, which the name says, so that counting needs no more than names."""
    return int(meta.rpartition(_META)[2])


async def _names(store: Store, folder: str) -> dict[str, int]:
    """Return the objects in a folder, and how many bytes each has. Raises Unavailable."""
    with store_errors():
        return {each["path"]: each["size"] async for page in store.list(folder) for each in page}


def _parts(names: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return name and size of each part, one behind the other from the first byte."""
    by_offset = {
        int(offset): (name, size) for name, size in names.items() if (offset := name.rpartition("/")[2]).isdigit()
    }
    parts, at = [], 0
    while (part := by_offset.get(at)) is not None and part[1]:
        parts.append(part)
        at += part[1]
    return parts
