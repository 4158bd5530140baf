"""Connection pools, and sessions of their own."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg import pq
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from adapters.postgres.conninfo import LOCK_S, STATEMENT_S, parameters
from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.ping import Answer, Server
from adapters.postgres.pooler import connect, warn_of_no_bounds
from domain.errors import Unavailable
from runtime.metrics import PG_CONNECTIONS, PG_IDLE, PG_WAITING

_log = structlog.get_logger()

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]


class Pool(AsyncConnectionPool[Connection]):
    """Pool that gives no caller a session that the server has ended, as after a crash of the server.

    The server's last words, or the end of the connection, wait in the socket: looking costs no round trip. The check
    that a pool can be given is for rare failures: after each it waits for longer.
    """

    server: Server | None = None
    """Server of the session that was opened last: of several it is the one in use."""

    async def getconn(self, timeout: float | None = None) -> Connection:
        while True:
            conn = await super().getconn(timeout)
            if not _is_over(conn):
                return conn
            await conn.close()
            await self.putconn(conn)


async def _note_server(conn: Connection) -> None:
    if isinstance(pool := conn._pool, Pool):
        pool.server = Server.of(conn)


def _is_over(conn: Connection) -> bool:
    readable = select.poll()
    readable.register(conn.pgconn.socket, select.POLLIN)
    if not readable.poll(0):
        return False
    if not conn.pgconn.ssl_in_use:
        return True
    # What waits may be a word of TLS itself, such as a ticket for another session.
    try:
        conn.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return bool(conn.pgconn.status != pq.ConnStatus.OK)


_RECONNECT_S = 2.0
_AGAIN_S = 0.5
"""Seconds between attempts at a first connection."""
LOOK_S = 5.0
"""Seconds between looks whether the server still takes new sessions."""


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    name: str = "all",
    size: int = 8,
    wait_s: float | None = 20,
    turn_s: float = 2.0,
    statement_s: float = STATEMENT_S,
    lock_s: float = LOCK_S,
    is_pooled: bool = False,
) -> AsyncIterator[Pool]:
    """Yield a pool of autocommit connections. Raises Unavailable when the server does not answer within ``wait_s``;
    None waits for ever, 0 not at all: the server may come later. Raises Invalid for a connection string that cannot
    work.

    ``name`` is its label in the metrics: what it is for, where a process has more than one. ``is_pooled`` says that the
    server is a pooler, such as PgBouncer, which may give a session to another client after each transaction.

    A caller waits at most ``turn_s`` for a connection, a statement runs at most ``statement_s`` and waits at most
    ``lock_s`` for each lock. When the server shuts down, the connections are closed, so that it can end.
    """
    kwargs = parameters(dsn, statement_s=statement_s, lock_s=lock_s, is_pooled=is_pooled)
    pool = Pool(
        dsn,
        min_size=min(2, size),
        max_size=size,
        timeout=turn_s,
        max_waiting=1000,
        open=False,
        # The pool's attempts to reconnect back off without limit, so after an outage it would stay empty for long. Once
        # they are given up the next caller starts a new attempt at once.
        reconnect_timeout=_RECONNECT_S,
        kwargs=kwargs,
        configure=_note_server,
    )
    if wait_s != 0:
        await _first_answer(dsn, kwargs, name, wait_s, is_pooled=is_pooled)
    async with pool, leaving(lambda: None if is_pooled else pool.server, pool.drain):
        _log.debug("pool_opened", pool=name, connections=size, statement_s=statement_s, lock_s=lock_s)
        _measure(pool, name)
        yield pool


async def _first_answer(
    dsn: str, kwargs: Mapping[str, Any], name: str, wait_s: float | None, *, is_pooled: bool
) -> None:
    """Return once the server has given a session that will do. Raises Unavailable, Invalid."""
    deadline = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            with unavailable_on_outage():
                async with await connect(dsn, kwargs, is_pooled=is_pooled) as conn:
                    await warn_of_no_bounds(conn)
                return
        except Unavailable as exc:
            if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                raise
            _log.warning("store_awaited", pool=name, reason=str(exc), driver=exc.driver)
        await asyncio.sleep(_AGAIN_S)


async def require_session(dsn: str) -> None:
    """Return once the server has given a session that belongs to one client. Raises Invalid when it will not."""
    await _first_answer(dsn, parameters(dsn), "sessions", None, is_pooled=False)


@asynccontextmanager
async def open_session(dsn: str) -> AsyncIterator[Connection]:
    """Yield a connection of its own, for locks that last as long as it. Raises Unavailable; Invalid when a pooler
    would give it to others.

    It is closed when the server shuts down: the next statement raises Unavailable.
    """
    with unavailable_on_outage():
        conn = await connect(dsn, parameters(dsn))

    async def close() -> None:
        async with conn.lock:  # not below a statement
            await conn.close()

    server = Server.of(conn)
    try:
        async with leaving(lambda: server, close):
            yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def leaving(server: Callable[[], Server | None], leave: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call ``leave`` whenever the server refuses new sessions, while the block runs.

    A server that is told to end by SIGTERM ("smart" shutdown) waits for the last of the old sessions, if need be for
    ever, and meanwhile nobody can start.
    """

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            at = server()
            if at is not None and await at.ping() is Answer.REFUSES:
                _log.warning("sessions_left", reason="PostgreSQL takes no new sessions")
                await leave()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _measure(pool: Pool, label: str) -> None:
    """Show the pool in the metrics."""

    def stat(name: str) -> float:
        return pool.get_stats().get(name, 0)

    for gauge, name in ((PG_CONNECTIONS, "pool_size"), (PG_IDLE, "pool_available"), (PG_WAITING, "requests_waiting")):
        gauge.labels(label).set_function(partial(stat, name))


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection without a transaction: each statement stands alone. Raises Unavailable."""
    with unavailable_on_outage():
        async with pool.connection() as conn:
            yield conn


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Yield a connection in a transaction, committed when the block ends. Raises Unavailable."""
    with unavailable_on_outage():
        async with pool.connection() as conn, conn.transaction():
            yield conn
