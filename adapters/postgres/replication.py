"""Streaming replication: the slots of the primary, and the receiver of the replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.statements import load
from domain.errors import Unavailable

_SQL = load("replication")


@asynccontextmanager
async def _server(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[tuple[bool]]]:
    with unavailable_on_outage():
        where = make_conninfo(dsn, dbname="postgres")
        async with await psycopg.AsyncConnection.connect(where, autocommit=True, connect_timeout=2) as conn:
            yield conn


async def is_kept(dsn: str, slot: str) -> bool:
    """Return True when the primary has the slot, and the log that its owner has yet to read. Raises Unavailable."""
    async with _server(dsn) as conn:
        row = await (await conn.execute(_SQL["is_kept"], {"slot": slot})).fetchone()
    return row is not None and row[0]


async def drop_slots(dsn: str) -> None:
    """Drop the slots of the primary, so that it keeps no log for absent replicas. Raises Unavailable."""
    async with _server(dsn) as conn:
        await conn.execute(_SQL["drop_slots"])


async def is_streaming(dsn: str) -> bool:
    """Return True while the server follows a primary."""
    try:
        async with _server(dsn) as conn:
            row = await (await conn.execute(_SQL["is_streaming"])).fetchone()
    except Unavailable:
        return False
    return row is not None and row[0]


async def set_synchronous(dsn: str, *, wanted: bool) -> None:
    """Let commits of the primary wait until its replica has them, or not. Raises Unavailable."""
    async with _server(dsn) as conn:
        row = await (await conn.execute(_SQL["is_synchronous"])).fetchone()
        if row is None or row[0] == wanted:
            return
        if wanted:
            await conn.execute(_SQL["owner_waits_for_nobody"])
        await conn.execute(_SQL["wait_for_replica" if wanted else "wait_for_nobody"])
        await conn.execute(_SQL["reload"])
