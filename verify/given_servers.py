"""Servers that a trial is given: it writes to them and never breaks them, so they must hold nothing yet."""

from __future__ import annotations

import os
from collections.abc import Collection

from adapters.kafka.log_position import open_positions
from adapters.postgres.migrate import count_tables, ensure_database
from runtime.variables import value_of
from schemas.topics import load
from stack.errors import OperatorError
from stack.given import CHILD, GIVEN, find_given, kafka_of, url_of
from stack.topology import role
from verify.faults import Fault

OPTION = "--given"
_WITH = {"postgres": ("postgres", "postgres-replica")}


def given_roles() -> frozenset[str]:
    """Return the roles of the servers that the environment names: some of postgres, kafka, valkey.

    Raises OperatorError for none.
    """
    found = frozenset(CHILD[name] for name, variable in GIVEN.items() if value_of(variable, os.environ))
    if not found:
        raise OperatorError(f"{OPTION} must come with one or more of {', '.join(GIVEN.values())}")
    return found


def hits(fault: Fault, given: Collection[str]) -> str:
    """Return the first of the given servers that the fault breaks, or would need a proxy before; empty for none."""
    broken = {*fault.targets, role(fault.needs.rpartition(":")[2])}
    return next((name for name in sorted(given) if broken & set(_WITH.get(name, (name,)))), "")


async def refuse_used() -> None:
    """Raise OperatorError when a given server does not answer, or holds what a trial could spoil.

    Raises Unavailable, MigrationError.
    """
    given = {server.name for server in await find_given()}
    if "postgres" in given:
        ensure_database(url_of("pg"))
        if tables := count_tables(url_of("pg")):
            raise OperatorError(
                f"{GIVEN['pg']} must name an empty database: a trial fills it, and this one has {tables} tables"
            )
    if "kafka" in given:
        topics = load()
        async with open_positions(kafka_of(url_of("kafka")), topics, "relay") as positions:
            found = await positions.read()
        if records := sum(found.ends.values()):
            raise OperatorError(
                f"{GIVEN['kafka']} must name brokers without our topics, or with empty ones: a trial writes foreign"
                f" records to them, and these hold {records}"
            )
