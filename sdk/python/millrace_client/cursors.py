"""Stores for the last processed seq of each conversation, from which a client resumes after a restart.

A cursor only moves forward. It is saved after the frame was processed: a client that dies in between is sent that
frame again. Whoever keeps what frames say in a database of their own stores the seq with it, in one transaction, and
drops what is not above it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol


class CursorStore(Protocol):
    """Cursors of one user's device."""

    def load(self, conversation_id: str) -> int | None:
        """Return the last seq that was processed; None when there is none yet."""

    def save(self, conversation_id: str, seq: int) -> None:
        """Store that everything up to ``seq`` was processed; a lower seq than the stored one changes nothing."""


class MemoryCursors:
    """Cursors that last as long as the process."""

    def __init__(self) -> None:
        self._cursors: dict[str, int] = {}

    def load(self, conversation_id: str) -> int | None:
        """Return the last seq that was processed; None when there is none yet."""
        return self._cursors.get(conversation_id)

    def save(self, conversation_id: str, seq: int) -> None:
        """Store that everything up to ``seq`` was processed; a lower seq changes nothing."""
        if seq > self._cursors.get(conversation_id, -1):
            self._cursors[conversation_id] = seq


class SqliteCursors:
    """Cursors in a SQLite file, which several accounts may share. Not for several processes of one account."""

    def __init__(self, path: Path | str, account: str = "") -> None:
        """Open or create the file. ``account`` tells users and devices apart. Raises sqlite3.Error."""
        self._account = account
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may move a cursor back, never forward
        self._connection.execute(_CREATE)

    def load(self, conversation_id: str) -> int | None:
        """Return the last seq that was processed; None when there is none yet."""
        row = self._connection.execute(_LOAD, (self._account, conversation_id)).fetchone()
        return None if row is None else int(row[0])

    def save(self, conversation_id: str, seq: int) -> None:
        """Store that everything up to ``seq`` was processed; a lower seq changes nothing."""
        self._connection.execute(_SAVE, (self._account, conversation_id, seq))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


_CREATE = """
CREATE TABLE IF NOT EXISTS millrace_cursors (
    account TEXT NOT NULL, conversation_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID
"""
_LOAD = "SELECT seq FROM millrace_cursors WHERE account = ? AND conversation_id = ?"
_SAVE = """
INSERT INTO millrace_cursors (account, conversation_id, seq) VALUES (?, ?, ?)
ON CONFLICT (account, conversation_id) DO UPDATE SET seq = max(seq, excluded.seq)
"""
