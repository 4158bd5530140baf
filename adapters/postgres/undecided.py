"""Messages about whose notifications nothing is decided yet, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load
from domain.notifications import Due
from schemas.messages import Message

_SQL = load("undecided")
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_SPACE = 0x6E6F7469
"""First half of the keys of our advisory locks; the second is of the conversation."""


@dataclass(frozen=True, slots=True)
class PostgresClaim:
    """Rows that are locked until the transaction of this connection ends."""

    conn: Connection
    message_ids: Sequence[str]

    async def settle(self, message_ids: Sequence[str]) -> None:
        await self.conn.execute(_SQL["settle"], {"messages": list(message_ids)})

    async def postpone(self, message_ids: Sequence[str], after_s: float) -> None:
        await self.conn.execute(_SQL["postpone"], {"messages": list(message_ids), "after_s": after_s})


@dataclass(frozen=True, slots=True)
class PostgresUndecided:
    """Undecided messages as rows, which a claim locks and skips where another claim has locked them."""

    pool: Pool

    async def defer(self, messages: Sequence[Message], after_s: float) -> None:
        columns = {
            "messages": [message.message_id for message in messages],
            "conversations": [message.conversation_id for message in messages],
            "after_s": after_s,
        }
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["defer"], columns)

    async def due(self, after: datetime | None = None) -> Due:
        async with connection(self.pool) as conn:
            row = await (await conn.execute(_SQL["due"], {"after": after or _EVER})).fetchone()
        assert row is not None
        return Due(*row)

    @asynccontextmanager
    async def claim(self, until: datetime, limit: int, after: datetime | None = None) -> AsyncIterator[PostgresClaim]:
        wanted = {"until": until, "after": after or _EVER, "limit": limit, "space": _SPACE}
        async with transaction(self.pool) as conn:
            found = await (await conn.execute(_SQL["claim"], wanted)).fetchall()
            yield PostgresClaim(conn, [message_id for (message_id,) in found])
