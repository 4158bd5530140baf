"""Counts in PostgreSQL, with a cursor for each conversation that moves in the same transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from adapters.postgres.pool import Connection, Pool, transaction
from adapters.postgres.replica import Replica, read, rows_of
from adapters.postgres.statements import load
from domain.analytics import MinuteCount, Total
from schemas.clock import wire_time

_SQL = load("counts")


@dataclass(frozen=True, slots=True)
class PostgresCounts:
    """Counts for the stage, which writes them, and MinuteCounts for members, who may read a replica."""

    pool: Pool
    replica: Replica | None = None

    async def add(self, ticks: Sequence[MinuteCount]) -> Sequence[Total]:
        if not ticks:
            return []
        minutes = list(dict.fromkeys((t.conversation_id, t.minute) for t in ticks))
        async with transaction(self.pool) as conn:
            await _count(conn, ticks)
            params = {"conversations": [c for c, _ in minutes], "minutes": [m for _, m in minutes]}
            cursor = await conn.execute(_SQL["totals"], params)
            return [Total(row[0], wire_time(row[1]), row[2]) for row in await cursor.fetchall()]

    async def minutes(
        self, conversation_id: str, start: datetime | None, end: datetime | None, limit: int
    ) -> Sequence[tuple[datetime, int]]:
        params = {"conversation_id": conversation_id, "start": start, "end": end, "limit": limit}
        found = await read(self.pool, self.replica, partial(rows_of, _SQL["minutes"], params))
        return [(row[0], row[1]) for row in found]


async def _count(conn: Connection, ticks: Sequence[MinuteCount]) -> None:
    ids = sorted({t.conversation_id for t in ticks})
    await conn.execute(_SQL["lock_cursors"], {"ids": ids})
    found = await conn.execute(_SQL["cursors"], {"ids": ids})
    cursors: dict[str, int] = dict(await found.fetchall())
    fresh = {(t.conversation_id, t.seq): t for t in ticks if t.seq > cursors[t.conversation_id]}
    if fresh:
        await _add(conn, fresh)
    if again := [t for t in ticks if t.seq <= cursors[t.conversation_id]]:
        columns = {
            "conversations": [t.conversation_id for t in again],
            "minutes": [t.minute for t in again],
            "seqs": [t.seq for t in again],
        }
        await conn.execute(_SQL["correct"], columns)


async def _add(conn: Connection, fresh: Mapping[tuple[str, int], MinuteCount]) -> None:
    added = Counter((t.conversation_id, t.minute) for t in fresh.values())
    await conn.execute(
        _SQL["add"],
        {
            "conversations": [c for c, _ in added],
            "minutes": [m for _, m in added],
            "messages": list(added.values()),
        },
    )
    heads: dict[str, int] = {}
    for conversation, seq in fresh:
        heads[conversation] = max(seq, heads.get(conversation, 0))
    await conn.execute(_SQL["advance"], {"conversations": list(heads), "seqs": list(heads.values())})
