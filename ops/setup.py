"""Bringing the servers to what this version needs: the schema of the database, the topics of the broker."""

from __future__ import annotations

import asyncio

from ops.errors import OperatorError
from runtime.errors import MillraceError, Unavailable
from schemas.topics import load

_BROKER_S = 60.0


async def migrate_database(dsn: str) -> None:
    """Make the database if need be, and apply the migrations. Raises OperatorError."""
    from runtime.store.migrate import MigrationError, ensure_database, migrate

    try:
        await asyncio.to_thread(ensure_database, dsn)
        await asyncio.to_thread(migrate, dsn)
    except MigrationError as exc:
        raise OperatorError(f"the database cannot be set up: {exc}") from exc


async def apply_topics(bootstrap: str, replication: int | None) -> list[str]:
    """Bring the broker to topics.yaml; wait for one that is still starting. Raises OperatorError."""
    from runtime.kafka.admin import apply

    clock = asyncio.get_running_loop().time
    deadline = clock() + _BROKER_S
    while True:
        try:
            return await apply(bootstrap, load(), replication=replication)
        except Unavailable as exc:
            if clock() > deadline:
                raise OperatorError(f"the topics cannot be applied: {exc}") from exc
            await asyncio.sleep(0.2)
        except MillraceError as exc:
            raise OperatorError(f"the topics cannot be applied: {exc}") from exc
