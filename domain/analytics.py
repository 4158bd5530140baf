"""Counts of messages by conversation and minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tick:
    """One message to count."""

    conversation_id: str
    seq: int
    minute: str


@dataclass(frozen=True, slots=True)
class Total:
    """The messages of one conversation and minute."""

    conversation_id: str
    minute: str
    messages: int


class Counts(Protocol):
    """Counts in the store, each conversation with a cursor beside them."""

    async def add(self, ticks: Sequence[Tick]) -> Sequence[Total]:
        """Count what is beyond the conversation's cursor; return the totals of all minutes named.

        Raises Unavailable.
        """
