"""Deletion of rows that have outlived their time, by an index and a few at a time."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres.pool import Pool, transaction
from adapters.postgres.statements import load
from domain.retention import Kept, Rule, Step

_SQL = load("retention")


@dataclass(frozen=True, slots=True)
class PostgresPruning:
    """Prune in PostgreSQL. Rows that somebody else has locked are passed over, and no lock is waited for."""

    pool: Pool
    kept: Kept

    async def prune(self, rule: Rule, after: str | None, limit: int) -> Step:
        ages = {age: getattr(self.kept, age) for age in rule.ages}
        async with transaction(self.pool) as conn:
            await conn.execute(_SQL["bounds"])
            found = await conn.execute(_SQL[rule.table], {**ages, "after": after, "limit": limit})
            [(rows, last)] = await found.fetchall()
        return Step(rows, last)
