"""Files of uploads, in a local folder or an object store. Only this module knows obstore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from domain.errors import Unavailable


@dataclass(frozen=True, slots=True)
class StoredBlobs:
    """Blobs in an object store."""

    store: LocalStore

    async def put(self, name: str, content: bytes) -> None:
        try:
            await self.store.put_async(name, content)
        except (BaseError, OSError) as exc:
            raise Unavailable("the file store does not answer; try again") from exc

    async def get(self, name: str) -> bytes | None:
        try:
            found = await self.store.get_async(name)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as exc:
            raise Unavailable("the file store does not answer; try again") from exc


def open_blobs(folder: Path) -> StoredBlobs:
    """Return blobs in a local folder, which is created if need be."""
    return StoredBlobs(LocalStore(prefix=folder, mkdir=True))
