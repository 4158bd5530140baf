"""Limits of calls per user."""

from __future__ import annotations

from typing import Protocol


class Rates(Protocol):
    """Counters per user, shared by all nodes."""

    async def hit(self, what: str, who: str, per_minute: int) -> None:
        """Count one; 0 means no limit. Raises RateLimited."""
