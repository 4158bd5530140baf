"""Whether the log is still the one that took what was published, with all of it.

A broker may come back empty, or with less than it acknowledged. What it lost is owed again before anything newer is
published, so that in the new log, too, the first occurrences of a conversation's events are in seq order.

A broker cannot end, lose its data, start and get its topics again within ``RESTART_S``. So an acknowledgement or a
comparison proves that the log is the known one for that long; after that it is compared again, before anything is
published and before anything that was acknowledged is marked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.log_position import Position, Positions, loss
from domain.outbox import Loss, Outbox

_log = structlog.get_logger()

RESTART_S = 2.0
IDLE_S = 1.0
COMPARE_EVERY_S = 5.0
CONFIRM_S = 3.0
"""After a change of leaders an end may be told for a moment that is behind what was told before."""


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Continuity:
    """Compares the log with what was noted of it, as seldom as is safe. ``lost`` is told of each loss."""

    positions: Positions
    lost: Callable[[Loss], None] = lambda _: None
    clock: Callable[[], float] = _now
    confirm_s: float = CONFIRM_S
    _proved_at: float = field(default=-math.inf)
    _compared_at: float = field(default=-math.inf)

    def begin(self) -> None:
        """Nothing is proved: the store or the broker was away."""
        self._proved_at = self._compared_at = -math.inf

    async def sure(self, outbox: Outbox, within_s: float = RESTART_S) -> bool:
        """Make sure that the log is whole; False when it was not, and what it lost is owed again.

        Raises Unavailable when that cannot be said now: then nothing may be published.
        """
        now = self.clock()
        if now - self._proved_at <= within_s and now - self._compared_at <= COMPARE_EVERY_S:
            return True
        return await self._compare(outbox)

    async def acknowledged(self, outbox: Outbox) -> bool:
        """The broker has acknowledged something; False when it was not the log that was known before."""
        if self.clock() - self._proved_at > RESTART_S:
            return await self._compare(outbox)
        self._proved_at = self.clock()
        return True

    async def _compare(self, outbox: Outbox) -> bool:
        now = self.clock()
        found = await self.positions.read()
        lost = await outbox.compare(found, self._confirmed)
        if lost is not None:
            _log.error("the log has lost records; they are published again", what=lost.what, rows=lost.rows)
            self.lost(lost)
        if found.missing:
            await self._restore(outbox, found.missing)
        self._proved_at = self._compared_at = now
        return lost is None

    async def _confirmed(self, noted: Position) -> Position:
        """The log now. What was found first may be older than what another relay has noted meanwhile."""
        found = await self.positions.read()
        if loss(noted, found) is not None:
            await asyncio.sleep(self.confirm_s)
            found = await self.positions.read()
        return found

    async def _restore(self, outbox: Outbox, missing: tuple[str, ...]) -> None:
        """Topics that were there once are made again; those of a new broker are its operator's to make."""
        replication = await outbox.noted_replication()
        if replication is None:
            raise Unavailable(f"the broker has no topic {missing[0]} yet: millrace topics apply")
        _log.error("topics are gone; they are made again", topics=list(missing))
        await self.positions.restore(replication)
