"""Counts of messages by conversation and minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """A message to count, in its minute."""

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
    """Store of counts; each conversation has a cursor up to which its messages are counted."""

    async def add(self, ticks: Sequence[MinuteCount]) -> Sequence[Total]:
        """Count the messages beyond their conversation's cursor; return the totals of all minutes given.

        The minute of a message up to the cursor is counted anew from the store. Raises Unavailable.
        """


class MinuteCounts(Protocol):
    """Counts, read for members."""

    async def minutes(
        self, conversation_id: str, start: datetime | None, end: datetime | None, limit: int
    ) -> Sequence[tuple[datetime, int]]:
        """Return (minute, messages) from ``start`` until before ``end``, newest first. Raises Unavailable."""
