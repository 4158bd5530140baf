"""Idempotency keys in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from domain.idempotency import KEPT_S, check_same

_SQL = load("idempotency")


@dataclass(frozen=True, slots=True)
class PostgresIdempotencyKeys:
    """Keys with the answers that were given for them. Keys that have ended are removed on the way."""

    pool: Pool

    async def find(self, user_id: str, key: str, request_hash: bytes) -> int | None:
        async with connection(self.pool) as conn:
            row = await (await conn.execute(_SQL["find"], {"user_id": user_id, "key": key})).fetchone()
        if row is None:
            return None
        known, status = row
        check_same(request_hash, bytes(known))
        return int(status)

    async def keep(self, user_id: str, key: str, request_hash: bytes, status: int) -> None:
        fields = {"user_id": user_id, "key": key, "hash": request_hash, "status": status, "kept_s": KEPT_S}
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["keep"], fields)
