"""Parked conversations of an ordered stage: no later record may overtake one that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parked:
    """Numbers of records of a parked conversation that failed, and that were set aside in all, since it was parked."""

    failures: int
    letters: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """Dead letters of one conversation that are written and have to be counted."""

    conversation_id: str
    cause: str
    failures: int
    letters: int


class Parking(Protocol):
    """Store of the parked conversations of one stage."""

    async def parked(self, conversation_ids: Sequence[str]) -> Mapping[str, Parked]:
        """Return the state of those of these conversations that are parked. Raises Unavailable."""

    async def park(self, aside: Sequence[SetAside]) -> None:
        """Park these conversations, or add to the counts of parked ones. Raises Unavailable."""

    async def unpark(self, conversation_id: str, letters: int) -> bool:
        """Unpark the conversation, unless more than ``letters`` were set aside meanwhile; return True when it is done.

        Raises Unavailable.
        """
