"""Folder of uploads under way, which all ingests share: ``uploads/SHARD/OWNER.ID`` with the bytes that have arrived,
and beside it ``OWNER.ID.meta``.

OWNER and SHARD come from a hash of the owner, so an upload is found by its owner alone, and the uploads of one user
are counted in one small folder, under its lock. A file grows as bytes arrive; nothing is reserved. All functions block.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from domain.errors import InsufficientStorage, NotFound, Unavailable
from domain.uploads import Upload, owner_key

_NO_SPACE = "no space is left for uploads; try again later"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_META = ".meta"


@dataclass(frozen=True, slots=True)
class DiskFloor:
    """Free space that uploads leave to others: ``free_bytes``, on a small disk ``free_percent`` of it.

    0 turns it off.
    """

    free_bytes: int = 2**30
    free_percent: float = 5.0

    def check(self, path: Path, needed: int = 0) -> None:
        """Raise InsufficientStorage when less than the floor would be free after ``needed`` bytes more."""
        disk = os.statvfs(path)
        floor = min(self.free_bytes, disk.f_blocks * disk.f_frsize * self.free_percent / 100)
        if floor and disk.f_bavail * disk.f_frsize - needed < floor:
            raise InsufficientStorage(_NO_SPACE)


@dataclass(slots=True, eq=False)
class UploadFile:
    """The bytes of an upload, locked against every other writer on any ingest."""

    path: Path
    descriptor: int
    floor: DiskFloor
    offset: int = field(init=False)
    """Bytes that have arrived."""
    _begun: int = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_open: bool = True

    def __post_init__(self) -> None:
        self.offset = self._begun = os.fstat(self.descriptor).st_size

    def append(self, content: bytes) -> None:
        """Write behind what is there. What fits stays, also when not all does.

        Raises InsufficientStorage, Unavailable.
        """
        with self._lock, _disk_errors():
            view = memoryview(content)
            while view and self._is_open:
                self.floor.check(self.path)
                written = os.pwrite(self.descriptor, view, self.offset)
                self.offset += written
                view = view[written:]

    def sync(self) -> None:
        """Make what was written durable. Raises InsufficientStorage, Unavailable; then the file is as it was opened."""
        with self._lock, _disk_errors():
            if not self._is_open:
                return
            try:
                os.fdatasync(self.descriptor)
            except OSError:  # nobody knows what of it is on the disk; the client sends it again
                os.ftruncate(self.descriptor, self._begun)
                self.offset = self._begun
                raise
            self._begun = self.offset

    def close(self) -> None:
        """Release the file and its lock."""
        with self._lock:  # a writer whose task was cancelled may still be at it
            if self._is_open:
                self._is_open = False
                os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class UploadFolder:
    """Uploads under way."""

    path: Path
    floor: DiskFloor = field(default_factory=DiskFloor)

    def create(self, upload: Upload, check: Callable[[Sequence[int]], None]) -> None:
        """Begin an upload. ``check`` gets the sizes of the owner's other uploads under way, and raises to refuse it.

        Raises InsufficientStorage, Unavailable.
        """
        with _disk_errors():
            self.floor.check(self.path, upload.size)
            file = self._file(upload.owner_id, upload.media_id)
            file.parent.mkdir(exist_ok=True)
            with _locked(file.parent):
                check([other.size for other in self._of(upload.owner_id)])
                try:
                    _meta(file).write_bytes(msgspec.json.encode(upload))
                    file.touch(exist_ok=False)
                except OSError:
                    self._unlink(file)
                    raise

    def find(self, owner_id: str, media_id: str) -> Upload | None:
        """Return the owner's upload; None when there is none. Raises Unavailable."""
        with _disk_errors():
            return _read(_meta(self._file(owner_id, media_id)))

    def arrived(self, upload: Upload) -> int:
        """Return how many bytes have arrived. Raises NotFound, Unavailable."""
        with _disk_errors():
            return self.file(upload).stat().st_size

    def open(self, upload: Upload) -> UploadFile | None:
        """Return the file, locked; None while another holds it. Raises NotFound, Unavailable."""
        with _disk_errors():
            path = self.file(upload)
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.stat()  # else it was completed and removed meanwhile
                return UploadFile(path, descriptor, self.floor)
            except OSError as exc:
                os.close(descriptor)
                if isinstance(exc, BlockingIOError):
                    return None
                raise

    def file(self, upload: Upload) -> Path:
        """Return the path of the bytes."""
        return self._file(upload.owner_id, upload.media_id)

    def remove(self, upload: Upload) -> None:
        """Forget an upload that is complete. Idempotent. Raises Unavailable."""
        with _disk_errors():
            self._unlink(self.file(upload))

    def remove_abandoned(self, after_s: float) -> None:
        """Delete uploads without a new byte for so long. Raises Unavailable."""
        before = time.time() - after_s
        with _disk_errors():
            names = {file.with_name(file.name.removesuffix(_META)) for file in self.path.rglob("*") if file.is_file()}
            for file in names:
                if max(map(_written_at, (file, _meta(file)))) < before:
                    self._unlink(file)

    def _of(self, owner_id: str) -> Iterator[Upload]:
        owner = owner_key(owner_id)
        for file in (self.path / owner[:2]).glob(f"{owner}.*{_META}"):
            if (upload := _read(file)) is not None:
                yield upload

    def _file(self, owner_id: str, media_id: str) -> Path:
        owner = owner_key(owner_id)
        return self.path / owner[:2] / f"{owner}.{media_id}"

    @staticmethod
    def _unlink(file: Path) -> None:
        _meta(file).unlink(missing_ok=True)  # first: without it the upload is not found any more
        file.unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class FolderWriter:
    """UploadWriter of a file in the folder."""

    file: UploadFile

    @property
    def offset(self) -> int:
        return self.file.offset

    async def append(self, content: bytes) -> None:
        await asyncio.to_thread(self.file.append, content)

    async def sync(self) -> None:
        await asyncio.to_thread(self.file.sync)

    @asynccontextmanager
    async def whole(self) -> AsyncIterator[Path]:
        yield self.file.path

    async def close(self) -> None:
        self.file.close()


@dataclass(frozen=True, slots=True)
class FolderUploads:
    """UploadStore in the folder."""

    folder: UploadFolder

    async def create(self, upload: Upload, check: Callable[[Sequence[int]], None]) -> None:
        await asyncio.to_thread(self.folder.create, upload, check)

    async def find(self, owner_id: str, media_id: str) -> Upload | None:
        return await asyncio.to_thread(self.folder.find, owner_id, media_id)

    async def arrived(self, upload: Upload) -> int:
        return await asyncio.to_thread(self.folder.arrived, upload)

    async def open(self, upload: Upload) -> FolderWriter | None:
        file = await asyncio.to_thread(self.folder.open, upload)
        return None if file is None else FolderWriter(file)

    async def remove(self, upload: Upload) -> None:
        await asyncio.to_thread(self.folder.remove, upload)

    async def remove_abandoned(self, after_s: float) -> None:
        await asyncio.to_thread(self.folder.remove_abandoned, after_s)


def open_folder(path: Path, floor: DiskFloor) -> FolderUploads:
    """Return the uploads under way in a folder, which is created if need be."""
    path.mkdir(parents=True, exist_ok=True)
    return FolderUploads(UploadFolder(path, floor))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn errors of the file system into ours."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound("no such upload by this user") from exc
    except OSError as exc:
        if exc.errno in _FULL:
            raise InsufficientStorage(_NO_SPACE) from exc
        raise Unavailable("the storage of uploads does not answer; try again") from exc


def _read(meta: Path) -> Upload | None:
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(meta.read_bytes(), type=Upload)
    return None


def _written_at(file: Path) -> float:
    """Return when a file was last written, in Unix seconds; 0 when it is gone."""
    with suppress(FileNotFoundError):
        return file.stat().st_mtime
    return 0.0


def _meta(file: Path) -> Path:
    return file.with_name(file.name + _META)
