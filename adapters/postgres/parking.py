"""Parked conversations and replayed dead letters in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.statements import load
from domain.parking import Parked, SetAside

_SQL = load("parking")


@dataclass(frozen=True, slots=True)
class PostgresParking:
    """Parking of one stage in PostgreSQL."""

    pool: Pool
    stage: str

    async def parked(self, conversation_ids: Sequence[str]) -> Mapping[str, Parked]:
        return await self._rows("parked", ids=list(conversation_ids))

    async def all(self) -> Mapping[str, Parked]:
        """Return every conversation that the stage has parked. Raises Unavailable."""
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

    async def replayed(self) -> frozenset[str]:
        """Return the ids of the stage's dead letters that were replayed. Raises Unavailable."""
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["replayed"], {"stage": self.stage})
            return frozenset(row[0] for row in await cursor.fetchall())

    async def note_replayed(self, letter_ids: Sequence[str]) -> None:
        """Note that these dead letters were replayed. Raises Unavailable."""
        async with transaction(self.pool) as conn:
            await conn.execute(_SQL["note_replayed"], {"stage": self.stage, "ids": list(letter_ids)})
            await conn.execute(_SQL["forget_replayed"])
