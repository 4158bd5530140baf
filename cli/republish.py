"""Publish events of the outbox again, and wait until the relay has done so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from cli.actions import recorded
from schemas.clock import wire_time
from stack.errors import OperatorError

_STALL_S = 60.0
_POLL_S = 0.2


async def republish_events(dsn: str, span_s: float, conversation_id: str | None) -> int:
    """Mark the events of the last ``span_s`` seconds as unpublished; return their count once all are published again.

    Raises OperatorError when the relay publishes none of them for a minute, Unavailable.
    """
    from adapters.postgres.outbox import owed, republish
    from adapters.postgres.pool import open_pool

    clock, until = asyncio.get_running_loop().time, datetime.now(UTC)
    since = until - timedelta(seconds=span_s)
    scope = {"since": wire_time(since), "conversationId": conversation_id}
    async with recorded(dsn, "topics republish", scope) as result, open_pool(dsn, size=1) as pool:
        count = await republish(pool, since, conversation_id)
        result["republished"] = count
        left, progress_at = await owed(pool, until, conversation_id), clock()
        while left:
            if clock() - progress_at > _STALL_S:
                raise OperatorError(f"{left} of {count} events are still unpublished: check that ingest and Kafka run")
            await asyncio.sleep(_POLL_S)
            before, left = left, await owed(pool, until, conversation_id)
            progress_at = clock() if left < before else progress_at
        return count
