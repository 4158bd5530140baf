"""Drain: every socket is sent away, spread evenly over some time, so that other nodes can take them in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from gateway.connection import Connection, Connections
from gateway.session import RESTART
from runtime.metrics import SENT_AWAY
from schemas.frames import Reconnect

OVER_S = 2.0
"""Seconds of a drain that SIGTERM starts."""
GRACE_S = 2.0
"""Seconds in which the last sockets must answer the close; then they are aborted."""


@dataclass(slots=True)
class Drain:
    """Sends all sockets of the node away. When ``hurry`` is done, those that are left go within OVER_S."""

    connections: Connections
    hurry: asyncio.Future[Any]
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, over_s: float) -> None:
        """Send ``reconnect`` to all and close each in its turn; return when none is left."""
        if not await self._send_away(over_s, in_haste=self.hurry.done()):
            await self._send_away(min(over_s, OVER_S), in_haste=True)
        await self._send_away(0, in_haste=True)  # those whose handshake was under way when this began
        if self._closing:
            await asyncio.wait(self._closing, timeout=GRACE_S)
        for connection in list(self.connections.values()):
            connection.abort("close_not_answered")

    async def _send_away(self, over_s: float, *, in_haste: bool) -> bool:
        """Return False when the drain must hurry."""
        clock = asyncio.get_running_loop().time
        leaving = [connection for connection in self.connections.values() if not connection.leaving]
        turns = [(over_s * number / len(leaving), connection) for number, connection in enumerate(leaving)]
        for after_s, connection in turns:
            connection.reply(Reconnect(after_ms=int(after_s * 1000), reason=RESTART.reason))
        began = clock()
        for after_s, connection in turns:
            wait = began + after_s - clock()
            if wait > 0 and await self._must_hurry(wait, in_haste=in_haste):
                return False
            self._close(connection)
        return True

    async def _must_hurry(self, wait_s: float, *, in_haste: bool) -> bool:
        if in_haste:
            await asyncio.sleep(wait_s)
            return False
        await asyncio.wait({self.hurry}, timeout=wait_s)
        return self.hurry.done()

    def _close(self, connection: Connection) -> None:
        if connection.socket.connection_id in self.connections and not connection.leaving:
            connection.leaving = True
            SENT_AWAY.inc()
            self._closing.add(asyncio.create_task(connection.end(RESTART)))
