"""Poolers between us and PostgreSQL, such as PgBouncer: noticed, and refused where a session must be one client's own.

Locks, LISTEN, prepared statements and the bounds of a session stay with it; a pooler in transaction mode gives it to
another client after each transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg.rows import TupleRow

from domain.errors import Invalid

_log = structlog.get_logger()

_Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

_REFUSED = "unsupported startup parameter"
_LOOKS = 3
_CHECK_S = 10.0
"""Seconds for all looks; a server that stops meanwhile holds nobody up."""
_SHARED = (
    "a pooler stands before PostgreSQL that gives a session to others after each transaction, such as PgBouncer in"
    " transaction mode: set MILLRACE_PG__DIRECT_DSN to PostgreSQL itself, beside MILLRACE_PG__DSN"
)
_NO_OPTIONS = (
    "PgBouncer stands before PostgreSQL: set MILLRACE_PG__DIRECT_DSN to PostgreSQL itself, beside MILLRACE_PG__DSN; or,"
    " with session pooling only, let PgBouncer have ignore_startup_parameters = options"
)
_OPTIONS_GIVEN = (
    "PgBouncer takes no options: leave them out of MILLRACE_PG__DSN, and give them to the login or the database, by"
    " ALTER ROLE or ALTER DATABASE"
)


async def connect(dsn: str, parameters: Mapping[str, Any], *, is_pooled: bool = False) -> _Connection:
    """Open a session that belongs to this client alone, unless it is to be one of a pooler.

    Raises psycopg.Error, TimeoutError; Invalid when a pooler shares it, or refuses what it is asked for.
    """
    try:
        conn = await psycopg.AsyncConnection.connect(dsn, **parameters)
    except psycopg.OperationalError as exc:
        if _REFUSED in str(exc):
            raise Invalid(_OPTIONS_GIVEN if is_pooled else _NO_OPTIONS) from exc
        raise
    if is_pooled:
        return conn
    try:
        async with asyncio.timeout(_CHECK_S):
            if await _pid(conn) != conn.info.backend_pid and await _is_shared(conn, dsn, parameters):
                raise Invalid(_SHARED)
    except BaseException:  # cancelled, too: nobody else would close the session
        await conn.close()
        raise
    return conn


async def _is_shared(conn: _Connection, dsn: str, parameters: Mapping[str, Any]) -> bool:
    """Return True when two clients meet in one session, or one client gets two.

    A pooler has process ids of its own for its clients; in its sessions PostgreSQL's are seen. It gives out the session
    that it got back last, or the one that it got back first.
    """
    for _ in range(_LOOKS):
        async with await psycopg.AsyncConnection.connect(dsn, **parameters) as other:
            mine = {await _pid(conn), await _pid(conn)}
            if len(mine) > 1 or await _pid(other) in mine:
                return True
    return False


async def _pid(conn: _Connection) -> int:
    row = await (await conn.execute("SELECT pg_backend_pid()", prepare=False)).fetchone()
    assert row is not None
    return int(row[0])


async def warn_of_no_bounds(conn: _Connection) -> None:
    """Log when the sessions have no bound of time for a statement: a pooler takes none from its clients."""
    async with asyncio.timeout(_CHECK_S):
        row = await (await conn.execute("SHOW statement_timeout", prepare=False)).fetchone()
    if row is not None and row[0] == "0":
        _log.warning(
            "statements_unbounded",
            reason="sessions have no statement_timeout: PgBouncer passes none on; give it to the login, by ALTER ROLE"
            " (docs/connecting.md)",
        )
