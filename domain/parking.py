"""Conversations that an ordered stage has parked: what fails there must not be overtaken by what comes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parked:
    """How many records of the conversation failed, and how many were set aside in all, since it is parked."""

    failures: int
    letters: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """Dead letters of one conversation that are written and to be counted."""

    conversation_id: str
    cause: str
    failures: int
    letters: int


class Parking(Protocol):
    """The parked conversations of one stage."""

    async def parked(self, conversation_ids: Sequence[str]) -> Mapping[str, Parked]:
        """Those of these conversations that are parked. Raises Unavailable."""

    async def park(self, aside: Sequence[SetAside]) -> None:
        """Park these conversations, or count more of what is parked. Raises Unavailable."""

    async def unpark(self, conversation_id: str, letters: int) -> bool:
        """Let the conversation go on, unless more than ``letters`` were set aside meanwhile. Raises Unavailable."""
