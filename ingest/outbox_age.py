"""Age of the oldest outbox row that is not published: the debt to Kafka, as an operator sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from domain.errors import Unavailable

EVERY_S = 5.0


@dataclass(slots=True)
class OutboxAge:
    """Reads the age now and then. ``read`` returns the time of the oldest row, None without one; Raises Unavailable.

    Between two readings, and while the store does not answer, the row that was read last grows older.
    """

    read: Callable[[], Awaitable[datetime | None]]
    clock: Callable[[], float] = time.time
    _oldest: datetime | None = None

    def seconds(self) -> float:
        """Return the age in seconds; 0 when nothing waits."""
        return 0.0 if self._oldest is None else max(0.0, self.clock() - self._oldest.timestamp())

    async def refresh(self) -> None:
        """Read the age. Raises Unavailable."""
        self._oldest = await self.read()

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            with suppress(Unavailable):
                await self.refresh()
            await asyncio.sleep(EVERY_S)
