"""How far the log has come, and the pure rule that tells a log that lost something from one that went on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The log at one moment, as far as the relay writes it."""

    cluster_id: str
    replication: int
    """The fewest replicas that one of its topics has."""
    ends: Mapping[str, int]
    """Topic/partition → the offset that the next record gets."""
    missing: tuple[str, ...] = ()
    """Topics that are declared and are not there."""


class Positions(Protocol):
    """Where the log is asked how far it has come."""

    async def read(self) -> Position:
        """The log as it is now. Raises Unavailable."""

    async def restore(self, replication: int) -> None:
        """Make the topics that are declared and are not there. Raises Unavailable."""


def loss(noted: Position, found: Position) -> str | None:
    """What the log has lost since it was noted, in words; None when it only went on. A topic that is gone has lost."""
    if found.cluster_id != noted.cluster_id:
        return f"it is another log: its cluster id was {noted.cluster_id} and is {found.cluster_id}"
    for place, end in sorted(noted.ends.items()):
        now = found.ends.get(place)
        if now is None:
            return f"{place} is gone"
        if now < end:
            return f"{place} ended at {end} and ends at {now}"
    return None


class Epochs(Protocol):
    """How often the log was found to have lost something, and in which epoch the positions of one reader were reached.

    A position of an earlier epoch means nothing: the log may have grown past it with records that were never read.
    """

    async def current(self) -> int:
        """The epoch now. Raises Unavailable."""

    async def of(self, partitions: Sequence[str]) -> Mapping[str, int]:
        """The epoch of each position that was ever reached. Raises Unavailable."""

    async def reached(self, partitions: Sequence[str], epoch: int) -> None:
        """From now on these positions are of this epoch. Raises Unavailable."""
