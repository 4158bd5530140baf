"""Counters by key, each with a limit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Bounded counters by key; a limit of 0 means none."""

    limit: int
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, spare: int = 0) -> bool:
        """Count one more; return False, and do not count it, when that exceeds the limit and ``spare``."""
        if self.limit and self._counts[key] >= self.limit + spare:
            return False
        self._counts[key] += 1
        return True

    def over(self, key: str) -> bool:
        """Return whether the count exceeds the limit."""
        return 0 < self.limit < self._counts[key]

    def remove(self, key: str) -> None:
        """Count one less."""
        self._counts[key] -= 1
        if self._counts[key] <= 0:
            del self._counts[key]
