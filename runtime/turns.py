"""Turns at what only a few may use at a time: one for each key, so that one user's queue is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from domain.errors import RateLimited, Unavailable

_RETRY_S = 1.0


@dataclass(slots=True)
class _Line:
    """Callers of one key: the one whose turn it is, and those who wait."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Turns:
    """Lets ``at_once`` callers in, each with another key, in the order in which their keys came.

    ``waiting`` callers of one key may wait, and ``keys`` keys may have callers at a time.
    """

    def __init__(self, *, at_once: int, waiting: int, keys: int) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._waiting, self._keys = waiting, keys
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it during the block.

        Raises RateLimited when too many callers of this key wait, Unavailable when callers of too many keys do.
        """
        line = self._lines.get(key) or _Line()
        if line.callers > self._waiting:
            raise RateLimited("too many of these calls at once; wait for their answers", _RETRY_S)
        if not line.callers and len(self._lines) >= self._keys:
            raise Unavailable("too many callers at once; try again")
        self._lines[key] = line
        line.callers += 1
        try:
            async with line.lock, self._slots:
                yield
        finally:
            line.callers -= 1
            if not line.callers:
                del self._lines[key]
