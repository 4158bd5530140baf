"""Epochs of the log, for one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load

_SQL = load("epochs")


@dataclass(frozen=True, slots=True)
class PostgresEpochs:
    """Epochs in PostgreSQL. A log that no relay has looked at yet is in its first epoch."""

    pool: Pool
    stage: str

    async def current(self) -> int:
        async with connection(self.pool) as conn:
            row = await (await conn.execute(_SQL["current"])).fetchone()
            return int(row[0]) if row else 0

    async def of(self, partitions: Sequence[str]) -> Mapping[str, int]:
        async with connection(self.pool) as conn:
            found = await conn.execute(_SQL["of"], {"stage": self.stage, "partitions": list(partitions)})
            return dict(await found.fetchall())

    async def reached(self, partitions: Sequence[str], epoch: int) -> None:
        places = {"stage": self.stage, "partitions": list(partitions), "epoch": epoch}
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["reached"], places)
