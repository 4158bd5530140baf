"""Logins of a stack whose PostgreSQL is embedded: one for each kind of process, with a password of its own."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.topics import stages
from stack.topology import role

OWNER = "millrace"
"""Superuser of the embedded cluster and owner of the database: for migrations, and for the supervisor itself."""
REPLICA = "replica"
OPERATOR = "operator"


def roles_of_logins() -> Mapping[str, str]:
    """Return the role of each login that works on the database. Raises BadTopics."""
    fronts = {"ingest": "ingest", "gateway": "gateway", "audit": "audit", OPERATOR: "operator"}
    return {**fronts, **dict.fromkeys(stages(), "streams")}


def dsn_for(process: str, logins: Mapping[str, str], owner: str) -> str:
    """Return the connection string of a process, by its name; the owner's where the server is given from outside."""
    return logins.get(role(process), owner)
