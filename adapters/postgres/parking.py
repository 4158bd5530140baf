"""Parked conversations and closed dead letters in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from domain.parking import Closed, Outcome, Parked, SetAside

_SQL = load("parking")


@dataclass(frozen=True, slots=True)
class PostgresParking:
    """Parking and LetterStore of one stage in PostgreSQL."""

    pool: Pool
    stage: str

    async def parked(self, conversation_ids: Sequence[str]) -> Mapping[str, Parked]:
        return await self._rows("parked", ids=list(conversation_ids))

    async def all(self) -> Mapping[str, Parked]:
        return await self._rows("all")

    async def _rows(self, name: str, **params: object) -> Mapping[str, Parked]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL[name], {"stage": self.stage, **params})
            return {row[0]: Parked(row[1], row[2]) for row in await cursor.fetchall()}

    async def park(self, aside: Sequence[SetAside]) -> None:
        columns = {
            "stage": self.stage,
            "ids": [a.conversation_id for a in aside],
            "causes": [a.cause for a in aside],
            "failures": [a.failures for a in aside],
            "letters": [a.letters for a in aside],
        }
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["park"], columns)

    async def unpark(self, conversation_id: str, letters: int) -> bool:
        params = {"stage": self.stage, "conversation_id": conversation_id, "letters": letters}
        async with connection(self.pool) as conn:
            return (await conn.execute(_SQL["unpark"], params)).rowcount > 0

    async def closed(self) -> Mapping[str, Closed]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["closed"], {"stage": self.stage})
            return {row[0]: Closed(Outcome(row[1]), row[2]) for row in await cursor.fetchall()}

    async def close(self, letter_ids: Sequence[str], end: Closed) -> None:
        params = {"stage": self.stage, "ids": list(letter_ids), "outcome": end.outcome.value, "reason": end.reason}
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["close"], params)
