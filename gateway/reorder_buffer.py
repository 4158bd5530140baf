"""Reorder buffer of a conversation on this node.

Frames come over Redis: late, twice, in the wrong order, or not at all. The buffer releases them densely by seq; a gap
is fetched from the store once for all sockets of the node. Pure: time and frames come in as arguments.

A frame from Redis is a claim, and the store has the last word:

* a seq that is claimed opens a gap only up to the store's head; claims beyond it are dropped (``observe_head``);
* frames that were released beyond the store's head were never true: the buffer goes back to it, so that the entry that
  gets the seq later is released like any other;
* of two different frames for one seq that waits neither is believed: the gap is fetched. For one that was released in
  the last REMEMBER_S, the store says which is true (``disputed``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

REORDER_S = 0.1
"""Seconds in which a gap may close by itself: different topics race by milliseconds."""
REMEMBER_S = 10.0
"""Seconds in which a true frame may come after a forged one with its seq."""
MAX_PENDING = 2000

F = TypeVar("F")


@dataclass(slots=True)
class ReorderBuffer(Generic[F]):
    """Frames that wait for those before them.

    ``cursor``: everything up to it was released; None until the head is known, and frames are kept meanwhile. ``head``:
    the highest seq that anybody has claimed, and that the store has not denied. ``disputed``: released seqs for which
    another frame came.
    """

    cursor: int | None = None
    head: int = 0
    disputed: set[int] = field(default_factory=set)
    _pending: dict[int, F] = field(default_factory=dict)
    _released: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Hashes of frames that were not read from the store, and when they were released. A secret of the process keys
    them (PEP 456), so nobody can forge a frame with the hash of another."""
    _gap_since: float | None = None

    def start(self, head: int, now: float) -> list[tuple[int, F]]:
        """Start at the head that was read *after* the subscription was confirmed; return the frames to release."""
        self.cursor, self.head = head, max(head, self.head)
        self._pending = {seq: frame for seq, frame in self._pending.items() if seq > head}
        return self._advance(now)

    def push(self, seq: int, frame: F, now: float) -> list[tuple[int, F]]:
        """Take a frame that claims a seq; return the frames to release."""
        self.head = max(self.head, seq)
        if self.cursor is not None and seq <= self.cursor:
            if seq in self._released and self._released[seq][0] != hash(frame):
                self.disputed.add(seq)
            return []
        if self._pending.get(seq, frame) != frame:
            del self._pending[seq]
            self._note_gap(now)
            return []
        self._keep(seq, frame)
        return self._advance(now)

    def fill(self, seq: int, frame: F, now: float) -> list[tuple[int, F]]:
        """Take a frame of the store, in place of one that claims its seq; return the frames to release."""
        if self.cursor is not None and seq <= self.cursor:
            return []
        self._keep(seq, frame)
        released = self._advance(now)
        self._released.pop(seq, None)  # nothing disputes it
        return released

    def observe_head(self, head: int, now: float, seen: int | None = None) -> bool:
        """Note the head of the store: it shows also the loss of the last message.

        ``seen``: the buffer's head just before the store's was read. What was claimed beyond the store's head by then
        is dropped, and the buffer goes back if it has released any of it; return True in that case.
        """
        rewound = False
        if seen is not None and seen > head:
            rewound = self._deny(head, seen)
        else:
            self.head = max(self.head, head)
        self._released = {seq: known for seq, known in self._released.items() if now - known[1] < REMEMBER_S}
        self._note_gap(now)
        return rewound

    @property
    def gap_due(self) -> float | None:
        """The time from which ``gap`` names a gap, should it not close until then; None without one."""
        return None if self.cursor is None or self._gap_since is None else self._gap_since + REORDER_S

    def gap(self, now: float) -> tuple[int, int] | None:
        """Return ``(after, up_to)`` of a gap that has not closed by itself, else None."""
        if self.cursor is None or self._gap_since is None or now < self._gap_since + REORDER_S:
            return None
        before_next = min(self._pending, default=self.head + 1) - 1
        return self.cursor, before_next

    def _deny(self, head: int, seen: int) -> bool:
        claimed = self.cursor or 0
        self._pending = {seq: frame for seq, frame in self._pending.items() if not head < seq <= seen}
        self._released = {seq: known for seq, known in self._released.items() if seq <= head}
        rewound = claimed > head
        if rewound:
            self.cursor = head
        # What came while the head was read may be true.
        self.head = max(head, max(self._pending, default=0), claimed if claimed > seen else 0)
        return rewound

    def _keep(self, seq: int, frame: F) -> None:
        fits = len(self._pending) < MAX_PENDING or seq in self._pending
        if fits or (self.cursor is not None and seq == self.cursor + 1):  # what closes the gap always fits
            self._pending[seq] = frame  # a frame that does not fit is fetched later

    def _advance(self, now: float) -> list[tuple[int, F]]:
        if self.cursor is None:
            return []
        released: list[tuple[int, F]] = []
        while (frame := self._pending.pop(self.cursor + 1, None)) is not None:
            self.cursor += 1
            released.append((self.cursor, frame))
        if released:
            self._gap_since = None
            self._released.update((seq, (hash(frame), now)) for seq, frame in released)
            while len(self._released) > MAX_PENDING:
                del self._released[next(iter(self._released))]
        self._note_gap(now)
        return released

    def _note_gap(self, now: float) -> None:
        if self.cursor is None or self.head <= self.cursor:
            self._gap_since = None
        elif self._gap_since is None:
            self._gap_since = now
