"""Rows of the outbox that this process has just committed: the relay publishes them without reading them again.

The store decides what is owed, and in which order. A committed row may go first only when it is certainly the next one
of its conversation: its seq follows that of the last row which this relay has published there. In all other cases (a
conversation of which nothing is known, another process that has written in between, too many rows) the row is left
out, and the relay reads what is owed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.outbox import Owed

MOST_ROWS = 5_000
MOST_CONVERSATIONS = 50_000


@dataclass(slots=True)
class Committed:
    """Committed rows that wait for their turn, and the places that their conversations have reached in the log."""

    most_rows: int = MOST_ROWS
    most_conversations: int = MOST_CONVERSATIONS
    must_read: bool = True
    """True when something may be owed that is not among these rows."""
    _rows: deque[Owed] = field(default_factory=deque)
    _reached: dict[str, int] = field(default_factory=dict)
    """Conversation → seq of the last row that is in the log; those that moved last come last."""

    def add(self, rows: Sequence[Owed]) -> None:
        """Add rows that were just committed, in the order of their seqs."""
        if len(self._rows) + len(rows) > self.most_rows:
            self._rows.clear()
            self.must_read = True
        else:
            self._rows.extend(rows)

    def take(self, limit: int) -> list[Owed]:
        """Take the rows that are the next of their conversations; the caller appends them, or forgets all."""
        taken: list[Owed] = []
        while self._rows and len(taken) < limit:
            row = self._rows.popleft()
            reached = self._reached.get(row.conversation_id)
            if reached is not None and row.seq == reached + 1:
                taken.append(row)
                self._reach(row)
            elif reached is None or row.seq > reached:
                self.must_read = True
        return taken

    def read(self, rows: Sequence[Owed]) -> None:
        """Note rows that were read and will be appended before any others."""
        for row in rows:
            if not row.part and row.seq >= self._reached.get(row.conversation_id, 0):
                self._reach(row)

    def forget(self) -> None:
        """Forget everything: what is owed may be other than what is known here."""
        self._rows.clear()
        self._reached.clear()
        self.must_read = True

    def _reach(self, row: Owed) -> None:
        self._reached.pop(row.conversation_id, None)
        self._reached[row.conversation_id] = row.seq
        if len(self._reached) > self.most_conversations:
            del self._reached[next(iter(self._reached))]
