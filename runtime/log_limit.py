"""Bound on repeated log lines: a library that retries says the same many times a second while a server is away.

Only warnings and errors are bounded, each kind for itself; a kind is an event of ours, or a text of a library without
its numbers. How many lines were left out is a field, ``left_out``, of the next line of that kind that is written.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

OURS = (20, 4.0)
THEIRS = (5, 3.0)
"""Lines of one kind at once, and per minute."""
_MOST_KINDS = 500
_KIND_CHARS = 100
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(slots=True)
class _Kind:
    lines: float
    at: float
    left_out: int = 0


@dataclass(slots=True)
class LogLimit:
    """Filter of a handler (logging.Filter): lets a record pass, or counts it."""

    clock: Callable[[], float] = time.monotonic
    _kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written; its ``left_out`` is the number of those before it that were not."""
        record.left_out = 0
        if record.levelno < logging.WARNING or (isinstance(record.msg, dict) and "left_out" in record.msg):
            return True  # the latter is bounded already
        most, per_minute = OURS if isinstance(record.msg, dict) else THEIRS
        now, kind = self.clock(), self._kind(record, most)
        kind.lines = min(most, kind.lines + (now - kind.at) * per_minute / 60)
        kind.at = now
        if kind.lines < 1:
            kind.left_out += 1
            return False
        kind.lines -= 1
        record.left_out, kind.left_out = kind.left_out, 0
        return True

    def _kind(self, record: logging.LogRecord, most: int) -> _Kind:
        key = (record.name, _name(record))
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= _MOST_KINDS:  # texts that have nothing in common: the oldest is forgotten
                del self._kinds[next(iter(self._kinds))]
            found = self._kinds[key] = _Kind(most, self.clock())
        return found


def _name(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):  # structlog has not rendered it yet
        return str(record.msg.get("event"))
    return _VARIES.sub("#", str(record.msg))[:_KIND_CHARS]
