"""Parked conversations of an ordered stage, where no later record may overtake one that failed; closed dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class Outcome(StrEnum):
    """End of a dead letter: a replay handled it, or an operator gave it up."""

    HANDLED = "handled"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Closed:
    """A dead letter that is open no more. ``reason``: the operator's, of a discarded one."""

    outcome: Outcome
    reason: str | None = None


class LetterStore(Protocol):
    """Store of what became of the dead letters of one stage."""

    async def all(self) -> Mapping[str, Parked]:
        """Return every conversation that the stage has parked. Raises Unavailable."""

    async def closed(self) -> Mapping[str, Closed]:
        """Return letter id → end, of the letters that are closed. Raises Unavailable."""

    async def close(self, letter_ids: Sequence[str], end: Closed) -> None:
        """Close these letters; one that is closed stays as it is. Raises Unavailable."""
