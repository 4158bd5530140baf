"""Connection pool, and the one place where driver errors become errors of this project."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from adapters.postgres.ping import Answer, ping
from domain.errors import Unavailable
from runtime.metrics import PG_CONNECTIONS, PG_IDLE, PG_WAITING

_log = structlog.get_logger()

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]


class Pool(AsyncConnectionPool[Connection]):
    """Pool that gives no caller a session that the server has ended, as after a crash of the server.

    The server's last words, or the end of the connection, wait in the socket: looking costs no round trip. The check
    that a pool can be given is for rare failures: after each it waits for longer.
    """

    async def getconn(self, timeout: float | None = None) -> Connection:
        while True:
            conn = await super().getconn(timeout)
            if not _is_over(conn):
                return conn
            await conn.close()
            await self.putconn(conn)


def _is_over(conn: Connection) -> bool:
    readable = select.poll()
    readable.register(conn.pgconn.socket, select.POLLIN)
    return bool(readable.poll(0))


def _options(statement_s: float, lock_s: float) -> str:
    """Return the server options that bound every statement, so that a stuck server gives an error and not a hang."""
    bounds = {
        "statement_timeout": f"{statement_s * 1000:.0f}ms",
        "lock_timeout": f"{lock_s * 1000:.0f}ms",
        "idle_in_transaction_session_timeout": "15s",
        "timezone": "UTC",
    }
    return " ".join(f"-c {name}={value}" for name, value in bounds.items())


STATEMENT_S, LOCK_S = 5.0, 2.0
_RECONNECT_S = 2.0
_AGAIN_S = 0.5
"""Seconds between attempts at a first connection; one that takes longer goes on meanwhile."""
LOOK_S = 5.0
"""Seconds between looks whether the server still takes new sessions."""
CONNECT: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 0,  # few statements, used again and again
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "options": _options(STATEMENT_S, LOCK_S),
}


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Raise Unavailable for every driver error that is not the fault of the values.

    That is: outages, time-outs, lost races, a server that is read-only, a schema of another version. So no caller needs
    psycopg, and no record is blamed for the store.
    """
    try:
        yield
    except psycopg.Error as exc:
        if _blames_values(exc):
            raise
        raise Unavailable(f"{_trouble(exc)}; try again", _driver_says(exc)) from exc
    except (PoolTimeout, TooManyRequests, OSError, TimeoutError) as exc:
        raise Unavailable("PostgreSQL does not answer; try again", str(exc)) from exc


_TROUBLE = {
    "25006": "PostgreSQL is read-only",
    "42501": "PostgreSQL denies this login a right: check its role, run `millrace setup`",
    "55P03": "PostgreSQL waits too long for a lock",
    "57014": "PostgreSQL takes too long",
    "57P03": "PostgreSQL is starting",
}
_TROUBLE_CLASSES = {
    "28": "PostgreSQL refuses the login",
    "3D": "PostgreSQL has no such database",
    "40": "PostgreSQL gave up a transaction that met another",
    "42": "PostgreSQL has the schema of another version",
    "53": "PostgreSQL is out of room or connections",
    "57": "PostgreSQL is stopping",
    "58": "PostgreSQL cannot reach its files",
}
"""Classes of SQLSTATE (PostgreSQL documentation, appendix A)."""


def _trouble(exc: psycopg.Error) -> str:
    state = exc.sqlstate or ""
    text = _TROUBLE.get(state) or _TROUBLE_CLASSES.get(state[:2])
    return f"{text} ({state})" if text else "PostgreSQL does not answer"


def _driver_says(exc: psycopg.Error) -> str:
    """Return the server's message without its detail, which may quote values; of a lost connection, all of it."""
    return str(exc.diag.message_primary or exc).strip().replace("\n", " ")


def _blames_values(exc: psycopg.Error) -> bool:
    """Return True for an impossible value, a constraint, a row twice in a statement, or a mistake of our code."""
    if isinstance(exc, psycopg.ProgrammingError):
        return exc.sqlstate is None or exc.sqlstate.startswith("21")
    return isinstance(exc, psycopg.DataError | psycopg.IntegrityError)


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
) -> AsyncIterator[Pool]:
    """Yield a pool of autocommit connections. Raises Unavailable when the server does not answer within ``wait_s``;
    None waits for ever.

    ``name`` is its label in the metrics: what it is for, where a process has more than one.

    A caller waits at most ``turn_s`` for a connection, a statement runs at most ``statement_s`` and waits at most
    ``lock_s`` for each lock. When the server shuts down, the connections are closed, so that it can end.
    """
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
        kwargs={**CONNECT, "options": _options(statement_s, lock_s)},
    )
    async with pool, leaving(dsn, pool.drain):
        await _first_answer(pool, name, wait_s)
        _log.debug("pool_opened", pool=name, connections=size, statement_s=statement_s, lock_s=lock_s)
        _measure(pool, name)
        yield pool


async def _first_answer(pool: Pool, name: str, wait_s: float | None) -> None:
    """Return once the server has given a connection. Raises Unavailable."""
    deadline = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            with unavailable_on_outage():
                async with pool.connection(_AGAIN_S):
                    return
        except Unavailable as exc:
            if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                raise
            _log.warning("store_awaited", pool=name, reason=str(exc))


@asynccontextmanager
async def open_session(dsn: str) -> AsyncIterator[Connection]:
    """Yield a connection of its own, for locks that last as long as it. Raises Unavailable.

    It is closed when the server shuts down: the next statement raises Unavailable.
    """
    with unavailable_on_outage():
        conn = await psycopg.AsyncConnection.connect(dsn, **CONNECT)

    async def close() -> None:
        async with conn.lock:  # not below a statement
            await conn.close()

    try:
        async with leaving(dsn, close):
            yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def leaving(dsn: str, leave: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call ``leave`` whenever the server refuses new sessions, while the block runs.

    A server that is told to end by SIGTERM ("smart" shutdown) waits for the last of the old sessions, if need be for
    ever, and meanwhile nobody can start.
    """

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if await ping(dsn) is Answer.REFUSES:
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
