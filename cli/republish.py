"""Owing events to the log again, and waiting until the relay has published them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from domain.errors import Unavailable
from domain.outbox import KEEP_PUBLISHED_H
from stack.errors import OperatorError

RETAINED_H = KEEP_PUBLISHED_H
_STILL_S = 60.0
_LOOK_S = 0.2


async def run_republish(dsn: str, span_s: float, conversation_id: str | None) -> int:
    """How many events were published again. Raises OperatorError, also when the relay gets nowhere for a minute."""
    from adapters.postgres.outbox import owed, republish
    from adapters.postgres.pool import open_pool

    clock, until = asyncio.get_running_loop().time, datetime.now(UTC)
    try:
        async with open_pool(dsn, size=1) as pool:
            count = await republish(pool, until - timedelta(seconds=span_s), conversation_id)
            left, moved_at = await owed(pool, until, conversation_id), clock()
            while left:
                if clock() - moved_at > _STILL_S:
                    raise OperatorError(f"{left} of {count} events still wait: is ingest running, and Kafka?")
                await asyncio.sleep(_LOOK_S)
                before, left = left, await owed(pool, until, conversation_id)
                moved_at = clock() if left < before else moved_at
            return count
    except Unavailable as exc:
        raise OperatorError(str(exc)) from exc
