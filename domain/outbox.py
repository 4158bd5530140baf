"""The outbox, as the relay needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.log_position import Position

KEEP_PUBLISHED_H = 48
"""Published rows stay so long, for a broker that lost its data."""


@dataclass(frozen=True, slots=True)
class Owed:
    """An event that is committed and not yet known to be in Kafka."""

    conversation_id: str
    seq: int
    topic: str
    value: bytes
    event_id: str
    part: str = ""
    """What tells facts apart that take no seq of their own and stand behind the one they name."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The log lost something, so what is retained was marked as not published: ``rows`` of them."""

    what: str
    rows: int


ReadAgain: TypeAlias = Callable[[Position], Awaitable[Position]]
"""How far the log has come now, told what was noted of it."""


class Outbox(Protocol):
    """Rows of the shards that this relay owns. Losing the store means losing the shards."""

    @property
    def shards(self) -> frozenset[int]:
        """The shards owned now; each has one owner among all relays."""

    async def claim(self) -> None:
        """Take every shard that nobody owns. Raises Unavailable."""

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        """Rows by their state, never by position, ordered by conversation and seq. Raises Unavailable."""

    async def mark(self, rows: Sequence[Owed], ends: Mapping[str, int]) -> None:
        """They are in Kafka, which ends there now, unless a loss was found since the last ``compare`` here.

        The ends are noted in the same step: whatever is marked can be missed. Raises Unavailable.
        """

    async def compare(self, found: Position, again: ReadAgain | None = None) -> Loss | None:
        """Note how far the log has come. If it lost something, all retained rows of all shards are owed again, before
        anybody publishes more; found by many relays at once, this is done once.

        What was found may be older than what another relay has noted since. So a loss is taken for one only when
        ``again`` says the same while nobody else can note anything. Raises Unavailable.
        """

    async def noted_replication(self) -> int | None:
        """How many replicas the log had when it was noted; None when it never was. Raises Unavailable."""

    async def prune(self, older_than_h: int, limit: int) -> int:
        """Forget rows published longer ago, at most ``limit``; return how many. Raises Unavailable."""
