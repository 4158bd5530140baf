"""Revocations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from domain.identity import LONGEST_S
from domain.revocations import Revocation

_SQL = load("revocations")
_LATE_S = 60.0
"""Seconds within which a revocation commits whose statement began before a mark, since statements are bounded."""


@dataclass(frozen=True, slots=True)
class PostgresRevocations:
    """Revocations in PostgreSQL. A mark is a time of the server, so that no clock of ours matters."""

    pool: Pool

    async def revoke(self, user_id: str, jti: str | None) -> Revocation:
        [row] = await self._all("revoke", {"user_id": user_id, "jti": jti, "longest_s": LONGEST_S})
        return Revocation(*row)

    async def since(self, mark: float | None) -> tuple[Sequence[Revocation], float]:
        [(now,)] = await self._all("time", {})
        if mark is None:
            found = await self._all("all", {})
        else:
            found = await self._all("since", {"since": mark - _LATE_S})
        return [Revocation(*row) for row in found], now

    async def note_closed(self, number: int, connections: int) -> None:
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["note_closed"], {"number": number, "connections": connections})

    async def closed(self, number: int) -> int:
        found = await self._all("closed", {"number": number})
        return int(found[0][0]) if found else 0

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], params)).fetchall()
