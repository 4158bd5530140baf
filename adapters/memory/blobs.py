"""Twin of the files."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class MemoryBlobs:
    """Files by name."""

    files: dict[str, bytes] = field(default_factory=dict)

    async def put(self, name: str, content: bytes) -> None:
        self.files[name] = content

    async def get(self, name: str) -> bytes | None:
        return self.files.get(name)
