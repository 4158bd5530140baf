"""Floors of the outbox: positions below which nothing is owed, so that no query passes over what was published.

A published row leaves the index of unpublished rows, but its entry stays there for as long as any snapshot is open that
could see it: of a dump, a replica, a forgotten session. Without floors each query of the relay passes over all of them.

Rows are chosen by state all the same, never by position: a floor only says where nothing can be. It is proved in three
steps, and nobody waits for any of them.

1. A row at position p is read, so every position up to p has been drawn.
2. Transactions that have written to the outbox and are not over are listed. Whoever drew a position up to p is among
   them, or has ended: PostgreSQL takes the lock that tells of it before the position is drawn, and releases it after
   the commit is visible.
3. All of these have ended: each row up to p is visible, or never will be. The lowest that is still owed is the floor.

An event that is owed again gets a position that is drawn then, beyond every floor. So a floor that was true once stays
true, whichever relay has proved it, and does not depend on who owns a shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from adapters.postgres.pool import Connection
from adapters.postgres.statements import load

_SQL = load("outbox")
RAISE_AFTER = 1_000
"""Rows that are published between two risings: about a millisecond of a query, were they all passed over."""
LOOK_EVERY_S = 0.5
"""Seconds between looks at transactions that are not over."""


@dataclass(slots=True)
class Floors:
    """Raises the floors of the shards that a relay owns, as it publishes."""

    conn: Connection
    raise_after: int = RAISE_AFTER
    _fresh: int = 0
    """Highest position that was read of what is owed for the first time; ``_again``, of the rest."""
    _again: int = 0
    _read: int = 0
    _complete: tuple[int, int] | None = None
    """Positions that are complete as soon as the ``_writers`` have ended."""
    _writers: frozenset[str] = field(default_factory=frozenset)
    _look_at: float = 0.0

    def note(self, position: int, *, again: bool) -> None:
        """Note that a row with this position was read."""
        self._read += 1
        if again:
            self._again = max(self._again, position)
        else:
            self._fresh = max(self._fresh, position)

    async def rise(self, shards: Collection[int]) -> None:
        """Raise the floors when enough was read since the last time, and it is proved that they may rise."""
        now = asyncio.get_running_loop().time()
        if self._complete is None and self._read >= self.raise_after:
            self._complete, self._read = (self._fresh, self._again), 0
            self._writers = await self._open()
        elif self._complete is not None and now >= self._look_at:
            self._writers &= await self._open()
        else:
            return
        self._look_at = now + LOOK_EVERY_S
        if not self._writers and self._complete is not None:
            fresh, again = self._complete
            self._complete = None
            await self.conn.execute(_SQL["raise_floors"], {"shards": list(shards), "fresh": fresh, "again": again})

    async def _open(self) -> frozenset[str]:
        """Return the transactions that have written to the outbox and are not over."""
        return frozenset(row[0] for row in await (await self.conn.execute(_SQL["writers"])).fetchall())
