"""The outbox in PostgreSQL. One connection holds the locks *and* does the work: without it, no ownership."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg

from runtime.outbox import Owed
from runtime.store.pool import CONNECT, Connection, Pool, connection, unavailable_on_outage
from runtime.store.statements import load
from schemas.ids import OUTBOX_SHARDS

_SQL = load("outbox")
_LOCK_SPACE = 0x4F555442  # "OUTB": apart from other advisory locks


@dataclass(slots=True)
class PostgresOutbox:
    """An Outbox on a connection of its own."""

    conn: Connection
    owned: set[int] = field(default_factory=set)

    @property
    def shards(self) -> frozenset[int]:
        return frozenset(self.owned)

    async def claim(self) -> None:
        missing = sorted(set(range(OUTBOX_SHARDS)) - self.owned)
        if not missing:
            return
        with unavailable_on_outage():
            cursor = await self.conn.execute(_SQL["claim"], {"shards": missing, "space": _LOCK_SPACE})
            self.owned.update(row[0] for row in await cursor.fetchall())

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        with unavailable_on_outage():
            wanted = {"shards": list(self.owned), "limit": limit}
            cursor = await self.conn.execute(_SQL["unpublished"], wanted)
            return [Owed(*row) for row in await cursor.fetchall()]

    async def mark(self, rows: Sequence[Owed]) -> None:
        with unavailable_on_outage():
            done = {"conversations": [r.conversation_id for r in rows], "seqs": [r.seq for r in rows]}
            await self.conn.execute(_SQL["mark"], done)

    async def prune(self, older_than_h: int) -> int:
        with unavailable_on_outage():
            return (await self.conn.execute(_SQL["prune"], {"hours": older_than_h})).rowcount


@asynccontextmanager
async def open_outbox(dsn: str) -> AsyncIterator[PostgresOutbox]:
    """An outbox that owns no shard yet. Raises Unavailable."""
    with unavailable_on_outage():
        conn = await psycopg.AsyncConnection.connect(dsn, **CONNECT)
    try:
        yield PostgresOutbox(conn)
    finally:
        await conn.close()


async def announcements(dsn: str) -> AsyncIterator[None]:
    """Yield whenever another process says that it wrote outbox rows. Raises Unavailable."""
    with unavailable_on_outage():
        async with await psycopg.AsyncConnection.connect(dsn, **CONNECT) as conn:
            await conn.execute(_SQL["listen"])
            yield None
            async for _ in conn.notifies():
                yield None


async def announce(pool: Pool) -> None:
    """Tell the relays of other processes that there are new rows. Raises Unavailable."""
    async with connection(pool) as conn:
        await conn.execute(_SQL["announce"])
