"""A conversation on this node, put in order.

Frames come over Redis: late, twice, in the wrong order, or not at all. A feed gives them out densely by seq; what
is missing is fetched from the store once for all sockets of the node. Pure: time and frames come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

REORDER_S = 0.1
"""How long a hole may close by itself: different topics race by milliseconds."""
MAX_PENDING = 2000

Numbered = tuple[int, bytes]


@dataclass(slots=True)
class Feed:
    """``cursor``: everything up to it was given out. None until the head is known; frames are kept meanwhile."""

    cursor: int | None = None
    head: int = 0
    _pending: dict[int, bytes] = field(default_factory=dict)
    _hole_since: float | None = None

    def start(self, head: int, now: float) -> list[Numbered]:
        """The head as read *after* the subscription was confirmed: what follows is live."""
        self.cursor, self.head = head, max(head, self.head)
        self._pending = {seq: frame for seq, frame in self._pending.items() if seq > head}
        return self._advance(now)

    def offer(self, seq: int, frame: bytes, now: float) -> list[Numbered]:
        """A frame arrived; what can be given out now."""
        self.head = max(self.head, seq)
        if self.cursor is not None and seq <= self.cursor:
            return []
        fits = len(self._pending) < MAX_PENDING or seq in self._pending
        if fits or (self.cursor is not None and seq == self.cursor + 1):  # what closes the hole always fits
            self._pending[seq] = frame  # what does not is fetched later
        return self._advance(now)

    def saw_head(self, head: int, now: float) -> None:
        """The store's head: finds also the loss of a last message."""
        self.head = max(self.head, head)
        self._note_hole(now)

    def missing(self, now: float) -> tuple[int, int] | None:
        """``(after, up_to)`` of a hole that has not closed by itself."""
        if self.cursor is None or self._hole_since is None or now - self._hole_since < REORDER_S:
            return None
        before_next = min(self._pending, default=self.head + 1) - 1
        return self.cursor, before_next

    def _advance(self, now: float) -> list[Numbered]:
        if self.cursor is None:
            return []
        given: list[Numbered] = []
        while (frame := self._pending.pop(self.cursor + 1, None)) is not None:
            self.cursor += 1
            given.append((self.cursor, frame))
        if given:
            self._hole_since = None
        self._note_hole(now)
        return given

    def _note_hole(self, now: float) -> None:
        if self.cursor is None or self.head <= self.cursor:
            self._hole_since = None
        elif self._hole_since is None:
            self._hole_since = now
