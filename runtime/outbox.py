"""The outbox, as the relay needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Owed:
    """An event that is committed and not yet known to be in Kafka."""

    conversation_id: str
    seq: int
    topic: str
    value: bytes
    event_id: str


class Outbox(Protocol):
    """Rows of the shards that this relay owns. Losing the store means losing the shards."""

    @property
    def shards(self) -> frozenset[int]:
        """The shards owned now; each has one owner among all relays."""

    async def claim(self) -> None:
        """Take every shard that nobody owns. Raises Unavailable."""

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        """Rows by their state, never by position, ordered by conversation and seq. Raises Unavailable."""

    async def mark(self, rows: Sequence[Owed]) -> None:
        """They are in Kafka. Raises Unavailable."""

    async def prune(self, older_than_h: int) -> int:
        """Forget rows published longer ago; return how many. Raises Unavailable."""
