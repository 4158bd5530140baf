"""Records that readers step over, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from domain.event_log import PlacedRecord
from domain.skips import Place, digest

_SQL = load("skips")


@dataclass(frozen=True, slots=True)
class PostgresSkips:
    """Skips in PostgreSQL. They are kept for as long as a topic may keep the record."""

    pool: Pool

    async def of(self, reader: str) -> Mapping[Place, bytes]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["of"], {"reader": reader})
            return {(row[0], row[1], row[2]): bytes(row[3]) for row in await cursor.fetchall()}

    async def add(self, reader: str, record: PlacedRecord) -> None:
        params = {
            "reader": reader,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "digest": digest(record),
        }
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["add"], params)
