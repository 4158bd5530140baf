"""Migrations: plain ``.sql`` files, applied in order, by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from yoyo import get_backend, read_migrations

_FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x4D494C4C  # "MILL": one advisory lock for all who migrate this database


class MigrationError(Exception):
    """Migration of the database failed."""


@contextmanager
def reported() -> Iterator[None]:
    """Raise MigrationError, in one line, for an error of the driver."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(f"{_line(exc)}; run it as the owner of the database") from exc
    except psycopg.Error as exc:
        raise MigrationError(_line(exc)) from exc


def _line(exc: psycopg.Error) -> str:
    return f"{type(exc).__name__}: {str(exc).splitlines()[0][:200]}"


def migrate(dsn: str) -> None:
    """Bring the database to the newest schema. Idempotent, safe to run at once from many processes.

    yoyo's own lock row survives a kill -9; holding an advisory lock proves that it is stale, so it is broken.
    Raises MigrationError.
    """
    with reported():
        _migrate(dsn)


def _migrate(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        backend = get_backend(_yoyo_url(dsn))
        backend.break_lock()
        with backend.lock():
            backend.apply_migrations(backend.to_apply(read_migrations(str(_FOLDER))))
        backend.connection.close()


def ensure_database(dsn: str) -> None:
    """Create the database that the DSN names, if the server does not have it. Raises MigrationError."""
    name = conninfo_to_dict(dsn).get("dbname") or ""
    with reported():
        _ensure_database(dsn, str(name))


def address(dsn: str) -> tuple[str, int]:
    """Return host and port of a connection string. Raises ValueError."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as exc:
        raise ValueError("not a connection string") from exc
    return str(parts.get("host") or "127.0.0.1"), int(parts.get("port") or 5432)


def place(dsn: str) -> str:
    """Return ``host:port/database`` of a connection string, without user or password. Raises ValueError."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as exc:
        raise ValueError("not a connection string") from exc
    host, port = parts.get("host") or parts.get("hostaddr") or "127.0.0.1", parts.get("port") or 5432
    return f"{host}:{port}/{parts.get('dbname') or parts.get('user') or ''}".rstrip("/")


def _ensure_database(dsn: str, name: str) -> None:
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True, connect_timeout=10) as admin:
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(str(name))))


async def accepts_connections(dsn: str) -> bool:
    """Return True when the server accepts connections; the database itself may be missing."""
    try:
        async with await psycopg.AsyncConnection.connect(make_conninfo(dsn, dbname="postgres"), connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _yoyo_url(dsn: str) -> str:
    parts = conninfo_to_dict(dsn)
    host, port = parts.get("host", "127.0.0.1"), parts.get("port", 5432)
    user, password, name = (str(parts.get(k) or "") for k in ("user", "password", "dbname"))
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    return f"postgresql+psycopg://{login}{host}:{port}/{quote(name, safe='')}"
