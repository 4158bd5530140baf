"""Bringing the servers to what this version needs: the schema of the database, the topics of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from domain.errors import AccessRefused, Invalid, MillraceError, Unavailable
from schemas.topics import load
from stack.errors import OperatorError
from stack.standstill import Standstill

if TYPE_CHECKING:
    from adapters.postgres.roles import Login
    from runtime.kafka_settings import Kafka

_BROKER_S = 60.0
_ATTEMPT_S = 20.0
"""An attempt takes less, also with a broker that accepts connections and says nothing."""


async def prepare_database(dsn: str) -> str | None:
    """Make the database if need be, apply the migrations, and give the roles their rights.

    Return a line about roles that the owner may not create, else None. Raises OperatorError.
    """
    from adapters.postgres.migrate import ensure_database, migrate
    from adapters.postgres.roles import apply_roles

    with _explained():
        await asyncio.to_thread(ensure_database, dsn)
        await _refuse_pooler(dsn)
        await asyncio.to_thread(migrate, dsn)
        return await asyncio.to_thread(apply_roles, dsn)


async def _refuse_pooler(dsn: str) -> None:
    """Raise OperatorError when a pooler shares the sessions: a migration holds a lock. Raises Unavailable."""
    from adapters.postgres.pool import open_session

    try:
        async with open_session(dsn):
            pass
    except Invalid as exc:
        raise OperatorError(str(exc)) from exc


async def set_logins(dsn: str, logins: Mapping[str, Login]) -> None:
    """Make the logins that are missing, and set all passwords. Raises OperatorError."""
    from adapters.postgres.roles import apply_logins

    with _explained():
        await asyncio.to_thread(apply_logins, dsn, logins)


@contextmanager
def _explained() -> Iterator[None]:
    from adapters.postgres.migrate import MigrationError

    try:
        yield
    except MigrationError as exc:
        raise OperatorError(f"the database cannot be set up: {exc}") from exc


async def fitting_replication(kafka: Kafka) -> int | None:
    """Return the number of brokers when it is smaller than a declared replication, else None. Raises OperatorError."""
    from adapters.kafka.admin import broker_count

    try:
        count = await broker_count(kafka)
    except Unavailable as exc:
        raise OperatorError(f"the topics cannot be applied: {exc}") from exc
    return count if count < max(topic.replication for topic in load()) else None


async def apply_topics(
    kafka: Kafka, replication: int | None, brokers: Callable[[], Sequence[int]] = tuple
) -> list[str]:
    """Bring the broker to topics.yaml; wait for one that is still starting. Raises OperatorError.

    ``brokers`` returns the process ids of our own brokers; while these work, the wait goes on.
    """
    from adapters.kafka.topics import apply

    standstill = Standstill(_BROKER_S, _ATTEMPT_S)
    while True:
        try:
            return await apply(kafka, load(), replication=replication)
        except Unavailable as exc:
            if isinstance(exc, AccessRefused) or standstill.reason(brokers()):
                raise OperatorError(f"the topics cannot be applied: {exc}") from exc
            await asyncio.sleep(0.2)
        except MillraceError as exc:
            raise OperatorError(f"the topics cannot be applied: {exc}") from exc
