"""Position of the log, and the pure rule that tells a log that lost records from one that only grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The relay's topics in the log at one moment."""

    cluster_id: str
    replication: int
    """Least number of replicas among the topics."""
    ends: Mapping[str, int]
    """Topic/partition → the offset that the next record gets."""
    missing: tuple[str, ...] = ()
    """Topics that are declared and do not exist."""
    partitions: Mapping[str, int] = field(default_factory=dict)
    """Topics that are declared → the number of partitions that they have."""


class Positions(Protocol):
    """Port to the log that reads its position."""

    async def read(self) -> Position:
        """Return the current position. Raises Unavailable."""

    async def restore(self, replication: int) -> None:
        """Create the topics that are declared and do not exist, with so many replicas. Raises Unavailable."""


def loss(noted: Position, current: Position) -> str | None:
    """Return what the log has lost since ``noted``, in words; None when it only grew. A missing topic is a loss."""
    if current.cluster_id != noted.cluster_id:
        return f"it is another log: its cluster id was {noted.cluster_id} and is {current.cluster_id}"
    for place, end in sorted(noted.ends.items()):
        now = current.ends.get(place)
        if now is None:
            return f"{place} is gone"
        if now < end:
            return f"{place} ended at {end} and ends at {now}"
    return None


class Epochs(Protocol):
    """Epochs of the log, which counts one more at each loss, and the epoch of each position of one reader.

    A position of an earlier epoch is void: the log may have grown past it with records that were never read.
    """

    async def current(self) -> int:
        """Return the current epoch. Raises Unavailable."""

    async def of(self, partitions: Sequence[str]) -> Mapping[str, int]:
        """Return the epoch of the reader's position in each partition that has one. Raises Unavailable."""

    async def reached(self, partitions: Sequence[str], epoch: int) -> None:
        """Note that the reader's positions in these partitions are of this epoch. Raises Unavailable."""
