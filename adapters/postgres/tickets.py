"""Tickets in PostgreSQL: valid on every node, and without Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from domain.identity import Identity
from domain.tickets import MOST, TTL_S, Ticket, hash_of, new_ticket

_SQL = load("tickets")


@dataclass(frozen=True, slots=True)
class PostgresTickets:
    """Tickets by their hash. The statement that reads a ticket deletes it, so each is redeemed once."""

    pool: Pool

    async def issue(self, identity: Identity, origin: str | None) -> Ticket:
        text = new_ticket()
        row = await self._one(
            "issue",
            {
                "hash": hash_of(text),
                "user_id": identity.user_id,
                "jti": identity.jti,
                "issued_at": identity.issued_at,
                "token_expires_at": identity.expires_at,
                "origin": origin,
                "ttl_s": TTL_S,
                "most": MOST,
            },
        )
        assert row is not None
        return Ticket(text, row[0])

    async def redeem(self, text: str, origin: str | None) -> Identity | None:
        digest = hash_of(text)
        row = await self._one("redeem", {"hash": digest}) if digest is not None else None
        if row is None:
            return None
        user_id, expires_at, jti, issued_at, bound_to, is_in_time = row
        if not is_in_time or bound_to not in (None, origin):
            return None
        return Identity(user_id, expires_at, jti, issued_at)

    async def _one(self, name: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], params)).fetchone()
