"""Bringing the servers to what this version needs: the schema of the database, the topics of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from domain.errors import MillraceError, Unavailable
from schemas.topics import load
from stack.errors import OperatorError
from stack.standstill import Standstill

_BROKER_S = 60.0
_ATTEMPT_S = 20.0
"""An attempt takes less, also with a broker that accepts connections and says nothing."""


async def migrate_database(dsn: str) -> None:
    """Make the database if need be, and apply the migrations. Raises OperatorError."""
    from adapters.postgres.migrate import MigrationError, ensure_database, migrate

    try:
        await asyncio.to_thread(ensure_database, dsn)
        await asyncio.to_thread(migrate, dsn)
    except MigrationError as exc:
        raise OperatorError(f"the database cannot be set up: {exc}") from exc


async def apply_topics(
    bootstrap: str, replication: int | None, brokers: Callable[[], Sequence[int]] = tuple
) -> list[str]:
    """Bring the broker to topics.yaml; wait for one that is still starting. Raises OperatorError.

    ``brokers`` returns the process ids of our own brokers; while these work, the wait goes on.
    """
    from adapters.kafka.topics import apply

    standstill = Standstill(_BROKER_S, _ATTEMPT_S)
    while True:
        try:
            return await apply(bootstrap, load(), replication=replication)
        except Unavailable as exc:
            if standstill.reason(brokers()):
                raise OperatorError(f"the topics cannot be applied: {exc}") from exc
            await asyncio.sleep(0.2)
        except MillraceError as exc:
            raise OperatorError(f"the topics cannot be applied: {exc}") from exc
