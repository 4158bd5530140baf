"""Twin of the files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from domain.media import Blob


@dataclass(slots=True)
class MemoryBlobs:
    """Files by name."""

    files: dict[str, bytes] = field(default_factory=dict)

    async def put(self, name: str, content: bytes) -> None:
        self.files[name] = content

    async def put_file(self, name: str, path: Path) -> None:
        self.files[name] = await asyncio.to_thread(path.read_bytes)

    async def size(self, name: str) -> int | None:
        content = self.files.get(name)
        return None if content is None else len(content)

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        content = self.files.get(name)
        if content is None:
            return None
        return Blob(len(content[start:end]), _whole(content[start:end]))

    async def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    async def delete(self, name: str) -> None:
        self.files.pop(name, None)


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
