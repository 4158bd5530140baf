"""Reorder buffer of a conversation on this node.

Frames come over Redis: late, twice, in the wrong order, or not at all. The buffer releases them densely by seq; a gap
is fetched from the store once for all sockets of the node. Pure: time and frames come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

REORDER_S = 0.1
"""Seconds in which a gap may close by itself: different topics race by milliseconds."""
MAX_PENDING = 2000

F = TypeVar("F")


@dataclass(slots=True)
class ReorderBuffer(Generic[F]):
    """Frames that wait for those before them.

    ``cursor``: everything up to it was released; None until the head is known, and frames are kept meanwhile.
    """

    cursor: int | None = None
    head: int = 0
    _pending: dict[int, F] = field(default_factory=dict)
    _gap_since: float | None = None

    def start(self, head: int, now: float) -> list[tuple[int, F]]:
        """Start at the head that was read *after* the subscription was confirmed; return the frames to release."""
        self.cursor, self.head = head, max(head, self.head)
        self._pending = {seq: frame for seq, frame in self._pending.items() if seq > head}
        return self._advance(now)

    def push(self, seq: int, frame: F, now: float) -> list[tuple[int, F]]:
        """Take a frame; return the frames to release."""
        self.head = max(self.head, seq)
        if self.cursor is not None and seq <= self.cursor:
            return []
        fits = len(self._pending) < MAX_PENDING or seq in self._pending
        if fits or (self.cursor is not None and seq == self.cursor + 1):  # what closes the gap always fits
            self._pending[seq] = frame  # a frame that does not fit is fetched later
        return self._advance(now)

    def observe_head(self, head: int, now: float) -> None:
        """Note the head of the store: it shows also the loss of the last message."""
        self.head = max(self.head, head)
        self._note_gap(now)

    def gap(self, now: float) -> tuple[int, int] | None:
        """Return ``(after, up_to)`` of a gap that has not closed by itself, else None."""
        if self.cursor is None or self._gap_since is None or now - self._gap_since < REORDER_S:
            return None
        before_next = min(self._pending, default=self.head + 1) - 1
        return self.cursor, before_next

    def _advance(self, now: float) -> list[tuple[int, F]]:
        if self.cursor is None:
            return []
        released: list[tuple[int, F]] = []
        while (frame := self._pending.pop(self.cursor + 1, None)) is not None:
            self.cursor += 1
            released.append((self.cursor, frame))
        if released:
            self._gap_since = None
        self._note_gap(now)
        return released

    def _note_gap(self, now: float) -> None:
        if self.cursor is None or self.head <= self.cursor:
            self._gap_since = None
        elif self._gap_since is None:
            self._gap_since = now
