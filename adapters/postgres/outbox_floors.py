"""Floors of the outbox: positions below which nothing is owed, so that no query passes over what was published.

A published row leaves the index of unpublished rows, but its entry stays there for as long as any snapshot is open that
could see it: of a dump, a replica, a forgotten session. Without floors each query of the relay passes over all of them.

Rows are chosen by state all the same, never by position: a floor only says where nothing can be. It is proved in three
steps, and nobody waits for any of them.

1. The last position that was drawn is read; let it be p.
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
    _marked: int = 0
    """Rows that were marked since the floors rose."""
    _complete: int | None = None
    """Position up to which all is complete as soon as the ``_writers`` have ended."""
    _writers: frozenset[str] = field(default_factory=frozenset)
    _look_at: float = 0.0

    def marked(self, rows: int) -> None:
        """Note that so many rows were marked as published."""
        self._marked += rows

    async def rise(self, shards: Collection[int]) -> None:
        """Raise the floors when enough was published since the last time, and it is proved that they may rise."""
        now = asyncio.get_running_loop().time()
        if self._complete is None and self._marked >= self.raise_after:
            self._complete, self._marked = await self._drawn(), 0
            self._writers = await self._open()
        elif self._complete is not None and now >= self._look_at:
            self._writers &= await self._open()
        else:
            return
        self._look_at = now + LOOK_EVERY_S
        if not self._writers and self._complete is not None:
            complete, self._complete = self._complete, None
            await self.conn.execute(_SQL["raise_floors"], {"shards": list(shards), "complete": complete})

    async def _drawn(self) -> int:
        """Return the last position that was drawn, by whomever."""
        row = await (await self.conn.execute(_SQL["drawn"])).fetchone()
        return row[0] if row else 0

    async def _open(self) -> frozenset[str]:
        """Return the transactions that have written to the outbox and are not over."""
        return frozenset(row[0] for row in await (await self.conn.execute(_SQL["writers"])).fetchall())
