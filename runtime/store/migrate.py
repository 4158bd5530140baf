"""Migrations: plain ``.sql`` files, applied in order, by one process at a time."""

from __future__ import annotations

from pathlib import Path

import psycopg
from yoyo import get_backend, read_migrations

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x4D494C4C  # "MILL": one advisory lock for all who migrate this database


def migrate(dsn: str) -> None:
    """Bring the database to the newest schema. Idempotent, safe to run at once from many processes.

    yoyo's own lock row survives a kill -9; holding an advisory lock proves that it is stale, so it is broken.
    Raises psycopg.Error.
    """
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        backend = get_backend(_yoyo_url(dsn))
        backend.break_lock()
        with backend.lock():
            backend.apply_migrations(backend.to_apply(read_migrations(str(_FOLDER))))
        backend.connection.close()


def _yoyo_url(dsn: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    host, port = parts.get("host", "127.0.0.1"), parts.get("port", 5432)
    user, password, name = (str(parts.get(k) or "") for k in ("user", "password", "dbname"))
    from urllib.parse import quote

    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    return f"postgresql+psycopg://{login}{host}:{port}/{quote(name, safe='')}"
