"""Requirements of a database, looked at before it is migrated, so that one line says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from adapters.postgres.statements import load

_SQL = load("requirements")
_OLDEST = 14
_EXTENSIONS = ["pg_trgm"]


def check(conn: psycopg.Connection[Any]) -> str | None:
    """Return what keeps the database from being set up, and what to do, else None. Raises psycopg.Error."""
    with conn.cursor(row_factory=dict_row) as cursor:
        database = cursor.execute(_SQL["database"]).fetchone() or {}
        extensions = cursor.execute(_SQL["extensions"], {"names": _EXTENSIONS}).fetchall()
    found = [*_of_database(database), *(text for one in extensions for text in _of_extension(one, database))]
    return found[0] if found else None


def _of_database(found: dict[str, Any]) -> Iterator[str]:
    name, user, schema = found["database"], found["user"], found["schema"]
    if found["version"] < _OLDEST:
        yield f"PostgreSQL must be of version {_OLDEST} or later; this is {found['version']}"
    if found["encoding"] != "UTF8":
        yield (
            f"the database {name} must have the encoding UTF8, and has {found['encoding']}: make another one with"
            " CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    if found["is_standby"]:
        yield (
            "this server is a standby, which takes no changes: name the primary, or add target_session_attrs=read-write"
        )
    if schema is None:
        yield f"search_path ({found['search_path']}) names no schema that {user} may use: create it, or grant USAGE"
    elif not found["may_create"]:
        yield f"{user} must have the right to create tables in the schema {schema}; run it as the owner of the database"


def _of_extension(extension: dict[str, Any], database: dict[str, Any]) -> Iterator[str]:
    name, user, schema = extension["name"], database["user"], extension["schema"]
    if schema is None:
        if not extension["is_available"]:
            yield f"the server lacks the extension {name}: install the package of its contrib modules"
        elif not extension["may_create"]:
            yield (
                f"the extension {name} is missing, and {user} may not create it: let a superuser run CREATE EXTENSION"
                f" {name} in {database['database']}, or GRANT CREATE ON DATABASE {database['database']} TO {user}"
            )
    elif not extension["may_use"]:
        yield f"{user} must have the right to use the extension {name}: GRANT USAGE ON SCHEMA {schema} TO {user}"
    elif not extension["is_found"]:
        yield (
            f"the extension {name} is in the schema {schema}, which search_path ({database['search_path']}) lacks: add"
            f" it, such as ALTER DATABASE {database['database']} SET search_path = {database['schema']}, {schema}"
        )
