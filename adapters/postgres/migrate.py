"""Migrations: plain ``.sql`` files, applied in order, by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import default_migration_table

from adapters.postgres.conninfo import parts_of
from adapters.postgres.errors import driver_says
from adapters.postgres.requirements import check

_FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x4D494C4C  # "MILL": one advisory lock for all who migrate this database
_CONNECT_S = 10


class MigrationError(Exception):
    """Migration of the database failed."""


@contextmanager
def reported() -> Iterator[None]:
    """Raise MigrationError, in one line, for an error of the driver."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(f"{driver_says(exc)}; run it as the owner of the database") from exc
    except psycopg.Error as exc:
        raise MigrationError(driver_says(exc)) from exc


def session(dsn: str, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a session of the owner, with the whole connection string. Raises psycopg.Error, ValueError."""
    bound = parts_of(dsn).get("connect_timeout", _CONNECT_S)
    # The encoding is that of what we read, also in a database of the wrong one, so that an error can name it.
    return psycopg.connect(dsn, autocommit=autocommit, connect_timeout=bound, client_encoding="UTF8")


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """Backend of yoyo on a session of ours; its own has nothing of a connection string but five of its parts."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        super().__init__(parse_uri("postgresql+psycopg:///"), default_migration_table)
        self.init_database()

    def connect(self, dburi: object) -> psycopg.Connection:
        """Open a session."""
        return session(self._dsn, autocommit=True)

    def copy(self) -> _Backend:
        """Return the same on another session."""
        return _Backend(self._dsn)


def migrate(dsn: str) -> None:
    """Bring the database to the newest schema. Idempotent, safe to run at once from many processes.

    yoyo's own lock row survives a kill -9; holding an advisory lock proves that it is stale, so it is broken.
    Raises MigrationError.
    """
    with reported(), session(dsn, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        if missing := check(guard):
            raise MigrationError(missing)
        with _Backend(dsn) as backend:
            backend.break_lock()
            with backend.lock():
                backend.apply_migrations(backend.to_apply(read_migrations(str(_FOLDER))))


def ensure_database(dsn: str) -> None:
    """Create the database that the DSN names, if the server does not have it. Raises MigrationError.

    Only then is a session opened in the database ``postgres``, which not everybody may enter.
    """
    with reported():
        try:
            session(dsn).close()
        except psycopg.OperationalError as exc:
            _create_database(dsn, exc)


def _create_database(dsn: str, failure: psycopg.OperationalError) -> None:
    """Create the database, or raise the failure of the session in it, if it has another cause."""
    parts = parts_of(dsn)
    name = parts.get("dbname") or parts.get("user") or ""
    try:
        admin = session(make_conninfo(dsn, dbname="postgres"), autocommit=True)
    except psycopg.OperationalError:
        raise failure from None
    with admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
            raise failure
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def count_tables(dsn: str) -> int:
    """Return the number of tables that a session of this DSN finds by their names alone. Raises MigrationError."""
    with reported(), session(dsn, autocommit=True) as conn:
        [[count]] = conn.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
        ).fetchall()
        return int(count)


async def accepts_connections(dsn: str) -> bool:
    """Return True when the server accepts connections; the database itself may be missing."""
    try:
        async with await psycopg.AsyncConnection.connect(make_conninfo(dsn, dbname="postgres"), connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False
