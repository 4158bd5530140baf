"""Closing of Kafka clients, so that whoever closes one can still be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

CLOSE_S = 10.0
_under_way: set[asyncio.Future[list[Any]]] = set()
"""Closings that nobody waits for any more; asyncio keeps no reference to them."""


async def close(*closings: Awaitable[Any], within_s: float = CLOSE_S) -> None:
    """Wait until clients are closed, for so many seconds at most; a connection that is lost already is no error.

    A client that takes longer, such as a member of a group that is being joined, goes on to close.

    Each closes in a task of its own. ``AIOKafkaClient.close`` cancels a task, waits for it and suppresses
    CancelledError, also the one that is meant for its caller: who was told to end would go on for ever, and
    ``asyncio.timeout`` would not end its block.
    """
    closed = asyncio.gather(*closings, return_exceptions=True)
    _under_way.add(closed)
    closed.add_done_callback(_under_way.discard)
    try:
        await asyncio.wait({closed}, timeout=within_s)
    except asyncio.CancelledError:
        await asyncio.wait({closed}, timeout=within_s)
        raise
