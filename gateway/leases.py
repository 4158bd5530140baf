"""Periodic care of connections: leases are renewed, those of dead nodes cleared, slow clients closed."""

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
from gateway.presence import PresenceTracker
from gateway.session import TOO_SLOW
from runtime.metrics import GHOSTS, SLOW

_log = structlog.get_logger()

_CHECK_S = 1.0
_CHECKS = 256
"""Connections that are checked in one turn of the loop."""


@dataclass(slots=True)
class Leases:
    """Leases of this node and its connections in the registry."""

    connections: Connections
    registry: Registry
    presence: PresenceTracker
    lease_s: float
    draining: bool = False
    _unannounced: set[str] = field(default_factory=set)
    _pending_unregister: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def opened(self, entry: Entry) -> None:
        """Register a connection. Without Redis the next renewal does it."""
        try:
            if await self.registry.register(entry):
                self.presence.came(entry.user_id)
        except Unavailable:
            self._unannounced.add(entry.user_id)
            _log.warning(
                "connection_not_registered",
                connection_id=entry.connection_id,
                user_id=entry.user_id,
                reason="redis does not answer; the next renewal registers it",
            )

    async def closed(self, entry: Entry) -> None:
        """Unregister a connection that has ended; without Redis as soon as that answers."""
        self._note_ended(entry)
        with suppress(Unavailable):
            await self._unregister(entry.connection_id)

    def _note_ended(self, entry: Entry) -> None:
        self._pending_unregister[entry.connection_id] = (entry.user_id, time.time_ns() // 1_000_000)

    async def _unregister(self, connection_id: str) -> None:
        if connection_id in self._pending_unregister:
            user, ended_ms = self._pending_unregister[connection_id]
            if await self.registry.unregister(connection_id, user, ended_ms):
                self.presence.went(user)
            self._pending_unregister.pop(connection_id, None)

    async def run(self) -> None:
        """Run for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._close_slow())
            group.create_task(self._keep())
            group.create_task(self._clear())

    async def _close_slow(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_CHECK_S)
            for number, connection in enumerate(list(self.connections.values()), 1):
                if not number % _CHECKS:
                    await asyncio.sleep(0)
                if connection.queue.open and not connection.queue.check_slow(clock()):
                    connection.log.info("connection_slow", buffered_bytes=connection.queue.waiting)
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
            self._unannounced.update(connection.socket.user_id for connection in self.connections.values())
        while self._unannounced:
            self.presence.came(self._unannounced.pop())
        for entry in renewed:
            if entry.connection_id not in self.connections:  # it ended while its lease was under way
                self._note_ended(entry)

    def _entries(self, renewed: list[Entry]) -> Iterator[Entry]:
        for id_ in list(self.connections):
            if id_ in self.connections:
                renewed.append(self.connections[id_].entry)
                yield renewed[-1]

    async def _clear(self) -> None:
        while True:
            with suppress(Unavailable):
                if await self.registry.forgets():
                    _log.info("leases_renewed", reason="the registry has lost something")
                    await self._renew()
                away = await self.registry.clear()
                GHOSTS.inc(len(away))
                if away:
                    _log.debug("ghosts_cleared", users=len(away))
                for user in away:
                    self.presence.went(user)
                for connection_id in list(self._pending_unregister):
                    await self._unregister(connection_id)
            await asyncio.sleep(min(_CHECK_S, self.lease_s / 3))

    async def leave(self) -> None:
        """Leave the registry as the node ends; another node broadcasts the presence that this one still owed."""
        with suppress(Unavailable):
            await self.registry.leave(self.presence.pending)

    async def show_draining(self) -> None:
        """Show operators at once that this node sends its sockets away."""
        self.draining = True
        with suppress(Unavailable):
            await self.registry.renew((), draining=True)
