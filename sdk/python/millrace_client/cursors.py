"""Stores for the last processed seq of each conversation, from which a client resumes after a restart.

A cursor only moves forward, unless the server has reset it. It is saved after the frame was processed: a client that
dies in between is sent that frame again. Whoever keeps what frames say in a database of their own stores the cursor
with it, in one transaction, and drops what is not above it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol


class Cursor(NamedTuple):
    """The last seq that was processed, and the epoch of the server's store that gave it; None where it is unknown."""

    seq: int
    epoch: str | None = None


class CursorStore(Protocol):
    """Cursors of one user's device."""

    def load(self, conversation_id: str) -> Cursor | None:
        """Return the cursor up to which everything was processed; None when there is none yet."""

    def save(self, conversation_id: str, cursor: Cursor) -> None:
        """Store that everything up to the cursor was processed; a lower seq than the stored one changes nothing."""

    def reset(self, conversation_id: str, cursor: Cursor) -> None:
        """Store a cursor that the server has reset, also a lower one."""


class MemoryCursors:
    """Cursors that last as long as the process."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    def load(self, conversation_id: str) -> Cursor | None:
        """Return the cursor up to which everything was processed; None when there is none yet."""
        return self._cursors.get(conversation_id)

    def save(self, conversation_id: str, cursor: Cursor) -> None:
        """Store that everything up to the cursor was processed; a lower seq changes nothing."""
        before = self._cursors.get(conversation_id)
        if before is None or cursor.seq >= before.seq:
            self._cursors[conversation_id] = cursor

    def reset(self, conversation_id: str, cursor: Cursor) -> None:
        """Store a cursor that the server has reset."""
        self._cursors[conversation_id] = cursor


class SqliteCursors:
    """Cursors in a SQLite file, which several accounts may share. Not for several processes of one account."""

    def __init__(self, path: Path | str, account: str = "") -> None:
        """Open or create the file. ``account`` tells users and devices apart. Raises sqlite3.Error."""
        self._account = account
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may move a cursor back, never forward
        self._connection.execute(_CREATE)
        with suppress(sqlite3.OperationalError):  # it has the column
            self._connection.execute("ALTER TABLE millrace_cursors ADD COLUMN epoch TEXT")

    def load(self, conversation_id: str) -> Cursor | None:
        """Return the cursor up to which everything was processed; None when there is none yet."""
        row = self._connection.execute(_LOAD, (self._account, conversation_id)).fetchone()
        return None if row is None else Cursor(*row)

    def save(self, conversation_id: str, cursor: Cursor) -> None:
        """Store that everything up to the cursor was processed; a lower seq changes nothing."""
        self._connection.execute(_SAVE, (self._account, conversation_id, *cursor))

    def reset(self, conversation_id: str, cursor: Cursor) -> None:
        """Store a cursor that the server has reset."""
        self._connection.execute(_RESET, (self._account, conversation_id, *cursor))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


_CREATE = """
CREATE TABLE IF NOT EXISTS millrace_cursors (
    account TEXT NOT NULL, conversation_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID
"""
_LOAD = "SELECT seq, epoch FROM millrace_cursors WHERE account = ? AND conversation_id = ?"
_RESET = """
INSERT INTO millrace_cursors (account, conversation_id, seq, epoch) VALUES (?, ?, ?, ?)
ON CONFLICT (account, conversation_id) DO UPDATE SET seq = excluded.seq, epoch = excluded.epoch
"""
_SAVE = f"{_RESET} WHERE excluded.seq >= seq"
