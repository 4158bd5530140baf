"""Sending every socket away, spread over some time, so that other nodes can take them in."""

from __future__ import annotations

import asyncio
import random

from gateway.connection import Connection, Connections
from gateway.session import RESTART
from schemas.frames import frame

OVER_S = 2.0
_GRACE_S = 5.0


async def drain(connections: Connections, over_s: float = OVER_S) -> None:
    """Say ``reconnect``, then close; a client that does not read is cut in the end."""
    closing = [asyncio.create_task(_send_away(connection, over_s)) for connection in list(connections.values())]
    if closing:
        await asyncio.wait(closing, timeout=over_s + _GRACE_S)
    for connection in list(connections.values()):
        connection.cut()


async def _send_away(connection: Connection, over_s: float) -> None:
    wait = random.uniform(0, over_s)
    connection.say(frame("reconnect", afterMs=int(wait * 1000), reason=RESTART.reason))
    await asyncio.sleep(wait)
    await connection.end(RESTART)
