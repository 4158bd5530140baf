"""What time does to connections: their leases are renewed, and those that take nothing are cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.connection import Connections
from gateway.session import TOO_SLOW
from runtime.errors import Unavailable
from runtime.metrics import SLOW
from runtime.ports import Registry

_log = structlog.get_logger()

_LOOK_S = 1.0


@dataclass(slots=True)
class Leases:
    """Of the connections of this node."""

    connections: Connections
    registry: Registry
    renew_s: float

    async def run(self) -> None:
        """For ever."""
        clock = asyncio.get_running_loop().time
        renew_at = 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            for connection in list(self.connections.values()):
                if connection.wire.open and not connection.wire.tend(clock()):
                    _log.info("socket cut: it takes too little")
                    SLOW.inc()
                    connection.spawn(connection.end(TOO_SLOW))
            if clock() >= renew_at:
                renew_at = clock() + self.renew_s
                leases = {id_: c.socket.user_id for id_, c in self.connections.items()}
                with suppress(Unavailable):
                    await self.registry.renew(leases)
