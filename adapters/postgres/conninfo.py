"""Connection strings of libpq, used whole: nothing that one says is dropped, and what it leaves open is bounded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from domain.errors import Invalid

STATEMENT_S, LOCK_S = 5.0, 2.0
_NO_STRING = "not a connection string of libpq, or one with signs in it that must be escaped"
_BOUNDS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
}


def parts_of(dsn: str) -> dict[str, str]:
    """Return the parts of a connection string, with those of the service that it names and of libpq's environment.

    Raises ValueError, which does not quote it: it may hold a password.
    """
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
        if "service" in parts or "PGSERVICE" in os.environ:
            parts = _of_service(dsn)
        options = pq.Conninfo.get_defaults()
    except psycopg.Error as exc:
        raise ValueError(_NO_STRING) from exc
    of_environment = {o.keyword.decode(): o.val.decode() for o in options if o.val and o.envvar in _environment()}
    _refuse_split(parts)
    return {**of_environment, **parts}


def _refuse_split(parts: Mapping[str, str]) -> None:
    """Raise ValueError for what is left of a password whose signs are not escaped, before the driver quotes it."""
    hosts, ports = parts.get("host", "").split(","), parts.get("port", "").split(",")
    if any("@" in host[1:] for host in hosts) or not all(port.isdecimal() for port in ports if port):
        raise ValueError(_NO_STRING)


def _environment() -> set[bytes]:
    return {name.encode() for name in os.environ}


def _of_service(dsn: str) -> dict[str, str]:
    """Return the parts as libpq finds them; it reads the file of services only for a connection that it begins."""
    begun = pq.PGconn.connect_start(dsn.encode())
    try:
        return {option.keyword.decode(): option.val.decode() for option in begun.info if option.val}
    finally:
        begun.finish()


def addresses(dsn: str) -> tuple[tuple[str, int], ...]:
    """Return the servers that a connection string names, by host or folder of a socket, and port. Raises ValueError."""
    parts = parts_of(dsn)
    hosts = (parts.get("hostaddr") or parts.get("host") or "127.0.0.1").split(",")
    ports = (parts.get("port") or "5432").split(",")
    pairs = zip_longest(hosts, ports[: len(hosts)], fillvalue=ports[0])
    return tuple((host or "127.0.0.1", int(port or 5432)) for host, port in pairs)


def place(dsn: str) -> str:
    """Return ``host:port/database`` of a connection string, without user or password. Raises ValueError."""
    parts = parts_of(dsn)
    servers = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses(dsn))
    return f"{servers}/{parts.get('dbname') or parts.get('user') or ''}".rstrip("/")


def parameters(
    dsn: str, *, statement_s: float = STATEMENT_S, lock_s: float = LOCK_S, is_pooled: bool = False
) -> dict[str, Any]:
    """Return what a session is opened with besides its connection string, so that a stuck server gives an error and
    not a hang. What the string itself says comes before it. Raises Invalid.

    A pooler gives one session to many clients: it takes no options, and statements must not be prepared in it.
    """
    try:
        parts = parts_of(dsn)
    except ValueError as exc:
        raise Invalid(
            "MILLRACE_PG__DSN must be a connection string of libpq, or a URI postgresql://…, in which @ : / and % of a"
            " password are %40 %3A %2F and %25"
        ) from exc
    bounds = {name: value for name, value in _BOUNDS.items() if name not in parts}
    if is_pooled:
        return {"autocommit": True, "prepare_threshold": None, **bounds}
    options = " ".join(filter(None, (_options(statement_s, lock_s), parts.get("options"))))
    # Statements are few, and used again and again.
    return {"autocommit": True, "prepare_threshold": 0, **bounds, "options": options}


def _options(statement_s: float, lock_s: float) -> str:
    """Return the server options that bound every statement."""
    bounds = {
        "statement_timeout": f"{statement_s * 1000:.0f}ms",
        "lock_timeout": f"{lock_s * 1000:.0f}ms",
        "idle_in_transaction_session_timeout": "15s",
        "timezone": "UTC",
    }
    return " ".join(f"-c {name}={value}" for name, value in bounds.items())
