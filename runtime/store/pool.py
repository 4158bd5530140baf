"""The connection pool, and the one place where driver errors become ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from runtime.errors import Unavailable

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]
Pool: TypeAlias = AsyncConnectionPool[Connection]

# Bounds for every statement of ours; a stuck server is an answer within seconds, not a hang.
_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "15s",
        "timezone": "UTC",
    }.items()
)


CONNECT: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 0,  # few statements, used again and again
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": _OPTIONS,
}


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Outages, time-outs and lost races leave as Unavailable, so that no caller needs psycopg."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout, TooManyRequests, OSError, TimeoutError) as exc:
        # Also deadlocks, serialization failures, cancelled statements: OperationalErrors all.
        raise Unavailable("PostgreSQL does not answer; try again") from exc


@asynccontextmanager
async def open_pool(dsn: str, *, size: int = 8, wait_s: float = 20) -> AsyncIterator[Pool]:
    """A pool of autocommit connections. Raises Unavailable when the server is not there within ``wait_s``."""
    pool: Pool = AsyncConnectionPool(
        dsn,
        min_size=min(2, size),
        max_size=size,
        timeout=2.0,
        max_waiting=1000,
        open=False,
        reconnect_timeout=60,
        kwargs=CONNECT,
    )
    async with pool:
        with unavailable_on_outage():
            await pool.wait(wait_s)
        yield pool


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection without a transaction: each statement stands alone. Raises Unavailable."""
    with unavailable_on_outage():
        async with pool.connection() as conn:
            yield conn


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction, committed when the block ends. Raises Unavailable."""
    with unavailable_on_outage():
        async with pool.connection() as conn, conn.transaction():
            yield conn
