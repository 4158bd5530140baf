"""Rows of the outbox, for tests on PostgreSQL."""

from __future__ import annotations

from adapters.postgres import change_log
from adapters.postgres.pool import Connection, Pool
from domain.changes import OutboxEntry
from tests import make


async def empty_outbox(pool: Pool) -> None:
    """Let the outbox owe nothing, and know of no log."""
    async with pool.connection() as conn:
        await conn.execute("TRUNCATE outbox, outbox_floors, log_state, log_ends RESTART IDENTITY")


async def owe(conn: Connection, room: str, *seqs: int) -> None:
    entries = [OutboxEntry(seq, make.created(conversation_id=room, seq=seq)) for seq in seqs]
    await change_log.owe(conn, entries)
