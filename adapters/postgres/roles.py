"""Roles of least privilege: one for each kind of process, with the rights that ``sql/grants.sql`` declares.

Roles belong to a whole cluster, so their names begin with that of the database: `millrace_ingest` in `millrace`. They
cannot log in; logins are their members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from adapters.postgres.migrate import LOCK, MigrationError, reported, session
from adapters.postgres.statements import load

ROLES = ("ingest", "streams", "gateway", "audit", "operator")
REPLICATION = "replication"
_GRANTS, _SQL = load("grants"), load("roles")
_NAME_MAX = 63
"""Bytes of a name in PostgreSQL; it cuts longer ones, and two databases would share their roles."""


@dataclass(frozen=True, slots=True)
class Login:
    """Login of one process. ``role`` is one of ROLES, or REPLICATION for a replica, which belongs to no database."""

    role: str
    password: str = field(repr=False)


def role_name(database: str, role: str) -> str:
    """Return the name of a role in the cluster. Raises MigrationError when the database's name is too long."""
    name = f"{database}_{role}"
    if len(name.encode()) > _NAME_MAX:
        raise MigrationError(f"the name of the database must have at most {_NAME_MAX - len('_operator')} bytes")
    return name


def apply_roles(dsn: str) -> str | None:
    """Make the roles that are missing, and give each exactly its rights; return what the owner may not do, else None.

    Idempotent. An owner that may not create roles grants the rights to those that there are. Raises MigrationError.
    """
    with reported(), session(dsn) as conn:
        conn.execute(_SQL["alone"], {"key": LOCK})
        names = {role: role_name(conn.info.dbname, role) for role in ROLES}
        trouble = _create(conn, names.values())
        known = _known(conn, names.values())
        _grant(conn, {role: name for role, name in names.items() if name in known})
        return trouble or _let_use_extensions(conn, known)


def apply_logins(dsn: str, logins: Mapping[str, Login]) -> None:
    """Make logins by name, or set their passwords anew. The server sees no password. Raises MigrationError."""
    with reported(), session(dsn) as conn:
        conn.execute(_SQL["alone"], {"key": LOCK})
        known = _known(conn, logins)
        for name, login in logins.items():
            hashed = conn.pgconn.encrypt_password(login.password.encode(), name.encode(), b"scram-sha-256").decode()
            values: dict[str, sql.Composable] = {
                "login": sql.Identifier(name),
                "password": sql.Literal(hashed),
                "replication": sql.SQL("REPLICATION" if login.role == REPLICATION else "NOREPLICATION"),
            }
            if name not in known:
                conn.execute(sql.SQL(_SQL["create_login"]).format(**values))
            conn.execute(sql.SQL(_SQL["set_login"]).format(**values))
            if login.role != REPLICATION:
                role = sql.Identifier(role_name(conn.info.dbname, login.role))
                conn.execute(sql.SQL(_SQL["join"]).format(role=role, **values))


def _known(conn: psycopg.Connection, names: Iterable[str]) -> set[str]:
    return {name for (name,) in conn.execute(_SQL["known"], {"names": list(names)})}


def _create(conn: psycopg.Connection, names: Iterable[str]) -> str | None:
    """Make the roles that are missing; return why they stay missing."""
    missing = sorted(set(names) - _known(conn, names))
    if not missing:
        return None
    user, may_create = conn.execute(_SQL["may_create"]).fetchone() or ("", False)
    if not may_create:
        return (
            f"{user} may not create the roles {', '.join(missing)}: processes need its own DSN; see docs/deploying.md"
        )
    for name in missing:
        conn.execute(sql.SQL(_SQL["create"]).format(role=sql.Identifier(name)))
    return None


def _let_use_extensions(conn: psycopg.Connection, roles: Iterable[str]) -> str | None:
    """Let the roles use the schemas of extensions; return what the owner may not grant."""
    for schema, may_grant, lacking in conn.execute(_SQL["extensions"], {"names": list(roles)}).fetchall():
        grant = sql.SQL(_SQL["let_use"]).format(
            schema=sql.Identifier(schema), roles=sql.SQL(", ").join(map(sql.Identifier, lacking))
        )
        if not may_grant:
            return f"processes need the extensions in the schema {schema}: let its owner run {grant.as_string(conn)}"
        conn.execute(grant)
    return None


def _grant(conn: psycopg.Connection, names: Mapping[str, str]) -> None:
    """Replace all rights of the roles by those that are declared."""
    [(schema,)] = conn.execute(_SQL["schema"]).fetchall()
    places = {"database": sql.Identifier(conn.info.dbname), "schema": sql.Identifier(schema)}
    conn.execute(sql.SQL(_GRANTS["database"]).format(**places))
    if not names:
        return
    roles = sql.SQL(", ").join(map(sql.Identifier, names.values()))
    for kind, name in conn.execute(_SQL["owned"], {}).fetchall():
        # Both come from the server's catalog: a kind, and a name that is quoted where it must be.
        conn.execute(sql.SQL(_SQL["revoke"]).format(kind=sql.SQL(kind), name=sql.SQL(name), roles=roles))
    for role, name in names.items():
        conn.execute(sql.SQL(_GRANTS[role]).format(**places, role=sql.Identifier(name)))
