"""What time does to connections: their leases are renewed, what dead nodes left is cleared, the stalled are cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.presence import Entry, Registry
from gateway.connection import Connections
from gateway.presence import PresenceDesk
from gateway.session import TOO_SLOW
from runtime.metrics import GHOSTS, SLOW

_log = structlog.get_logger()

_LOOK_S = 1.0
_AT_ONCE = 256
"""Connections that are looked at in one turn of the loop."""


@dataclass(slots=True)
class Leases:
    """Of this node and its connections."""

    connections: Connections
    registry: Registry
    presence: PresenceDesk
    lease_s: float
    draining: bool = False
    _unsaid: set[str] = field(default_factory=set)
    _owed: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def began(self, entry: Entry) -> None:
        """A connection was made. Without Redis it is told of at the next renewal."""
        try:
            if await self.registry.register(entry):
                self.presence.came(entry.user_id)
        except Unavailable:
            self._unsaid.add(entry.user_id)
            _log.warning("connection not registered: redis is away")

    async def ended(self, entry: Entry) -> None:
        """A connection has ended. Without Redis that is told as soon as it answers."""
        self._owe(entry)
        with suppress(Unavailable):
            await self._unregister(entry.connection_id)

    def _owe(self, entry: Entry) -> None:
        self._owed[entry.connection_id] = (entry.user_id, time.time_ns() // 1_000_000)

    async def _unregister(self, connection_id: str) -> None:
        if connection_id in self._owed:
            user, ended_ms = self._owed[connection_id]
            if await self.registry.unregister(connection_id, user, ended_ms):
                self.presence.went(user)
            self._owed.pop(connection_id, None)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cut_stalled())
            group.create_task(self._keep())
            group.create_task(self._clear())

    async def _cut_stalled(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_LOOK_S)
            for number, connection in enumerate(list(self.connections.values()), 1):
                if not number % _AT_ONCE:
                    await asyncio.sleep(0)
                if connection.wire.open and not connection.wire.tend(clock()):
                    _log.info("socket cut: it takes too little")
                    SLOW.inc()
                    connection.spawn(connection.end(TOO_SLOW))

    async def _keep(self) -> None:
        while True:
            with suppress(Unavailable):
                await self._renew()
            await asyncio.sleep(self.lease_s / 3)

    async def _renew(self) -> None:
        renewed: list[Entry] = []
        if await self.registry.renew(self._entries(renewed), draining=self.draining):
            self._unsaid.update(connection.socket.user_id for connection in self.connections.values())
        while self._unsaid:
            self.presence.came(self._unsaid.pop())
        for entry in renewed:
            if entry.connection_id not in self.connections:  # it ended while its lease was under way
                self._owe(entry)

    def _entries(self, renewed: list[Entry]) -> Iterator[Entry]:
        for id_ in list(self.connections):
            if id_ in self.connections:
                renewed.append(self.connections[id_].entry)
                yield renewed[-1]

    async def _clear(self) -> None:
        while True:
            with suppress(Unavailable):
                away = await self.registry.clear()
                GHOSTS.inc(len(away))
                for user in away:
                    self.presence.went(user)
                for connection_id in list(self._owed):
                    await self._unregister(connection_id)
            await asyncio.sleep(min(_LOOK_S, self.lease_s / 3))

    async def leave(self) -> None:
        """The node ends. Whom it was still about to tell of, another one tells of."""
        with suppress(Unavailable):
            await self.registry.leave(self.presence.pending)

    async def say_draining(self) -> None:
        """Operators see at once that this node sends its sockets away."""
        self.draining = True
        with suppress(Unavailable):
            await self.registry.renew((), draining=True)
