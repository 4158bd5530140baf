"""The one place where driver errors become errors of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from domain.errors import Unavailable

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
_MAX_TEXT = 400


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
        raise Unavailable(f"{_trouble(exc)}; try again", driver_says(exc)) from exc
    except (PoolTimeout, TooManyRequests, OSError, TimeoutError) as exc:
        raise Unavailable("PostgreSQL does not answer; try again", str(exc)) from exc


def _trouble(exc: psycopg.Error) -> str:
    state = exc.sqlstate or ""
    text = _TROUBLE.get(state) or _TROUBLE_CLASSES.get(state[:2])
    if text:
        return f"{text} ({state})"
    if exc.pgconn is not None and "FATAL" in str(exc):  # the server's own word, also behind the TLS that it accepted
        return "PostgreSQL refuses the connection"
    return "PostgreSQL does not answer"


def driver_says(exc: psycopg.Error) -> str:
    """Return the server's message without its detail, which may quote values; of a lost connection, all of it.

    No message of a connection holds a password: a connection string of the wrong form has been refused before.
    """
    lines = [line.strip() for line in (exc.diag.message_primary or str(exc)).splitlines()]
    return "; ".join(dict.fromkeys(filter(None, lines)))[:_MAX_TEXT]


def _blames_values(exc: psycopg.Error) -> bool:
    """Return True for an impossible value, a constraint, a row twice in a statement, or a mistake of our code."""
    if isinstance(exc, psycopg.ProgrammingError):
        return exc.sqlstate is None or exc.sqlstate.startswith("21")
    return isinstance(exc, psycopg.DataError | psycopg.IntegrityError)
