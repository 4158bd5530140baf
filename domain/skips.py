"""Records that an operator lets a reader step over, since it cannot get past them by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, TypeAlias

from domain.errors import Unavailable
from domain.event_log import PlacedRecord

SKIPPED = "skipped"
READ_EVERY_S = 3.0

Place: TypeAlias = tuple[str, int, int]
"""(topic, partition, offset)."""


class Skips(Protocol):
    """Store of the records that readers step over."""

    async def of(self, reader: str) -> Mapping[Place, bytes]:
        """Return place → digest of the records that this reader, a consumer group, steps over. Raises Unavailable."""

    async def add(self, reader: str, record: PlacedRecord) -> None:
        """Let the reader step over a record. Idempotent. Raises Unavailable."""


def digest(record: PlacedRecord) -> bytes:
    """Return the digest of a record's key and value."""
    key, value = record.key or b"", record.value or b""
    return sha256(len(key).to_bytes(8, "big") + key + value).digest()


@dataclass(slots=True)
class SkipList:
    """The records that one reader steps over, as read last.

    A record counts by its place and its digest, so that a log that counts its offsets anew loses no other record.
    """

    skips: Skips
    reader: str
    _digests: Mapping[Place, bytes] = field(default_factory=dict)

    async def read(self) -> None:
        """Read the list; keep the last one while the store does not answer: then nothing is handled anyway."""
        with suppress(Unavailable):
            self._digests = await self.skips.of(self.reader)

    async def keep(self) -> None:
        """Read the list for ever."""
        while True:
            await asyncio.sleep(READ_EVERY_S)
            await self.read()

    def covers(self, record: PlacedRecord) -> bool:
        """Return True for a record that the reader steps over."""
        if not self._digests:
            return False
        known = self._digests.get((record.topic, record.partition, record.offset))
        return known is not None and known == digest(record)
