"""Subscribing: one connection to each server, and a channel on that of the server that has its slot.

Pub/sub loses silently, so every confirmation after a channel's first (a connection made anew, a slot that has moved)
is told of as a gap.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.crc import key_slot
from redis.exceptions import MovedError, ResponseError

from adapters.redis.client import OUTAGES, Address
from adapters.redis.connection import Line, credentials, open_line
from adapters.redis.slot_client import Servers, open_servers
from domain.errors import Unavailable
from domain.pubsub import Hint

_log = structlog.get_logger()

CONFIRM_S = 2.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_SETTLE_S = 0.1
_LOOK_S = 5.0
"""Slots are read so often without any reason: a node that stands still does not say that a replica has taken over."""
_WAITING = 10_000
_AT_ONCE = 128
"""Hints in one turn of the loop. What a turn brings to a socket is one write, but no turn may last for ever."""


@dataclass(slots=True, eq=False)
class _Channel:
    """A channel that is wanted; ``confirmed`` while its server has said so last, ``before`` once it ever has.

    ``told`` is there only while somebody waits for that: a node has two channels for each user.
    """

    known_as: str
    server: _Server | None = None
    confirmed: bool = False
    before: bool = False
    told: asyncio.Event | None = None


@dataclass(slots=True, eq=False)
class _Server:
    """One of them, and the connection to it, which is made again for ever."""

    address: Address
    all: RedisSubscriptions
    line: Line | None = None
    task: asyncio.Task[None] | None = None
    _failures: int = 0

    async def run(self) -> None:
        while True:
            try:
                await self._serve()
            except OUTAGES as exc:
                _log.warning("redis subscription lost", error=type(exc).__name__, port=self.address.port)
            self.all.lost(self)
            await asyncio.sleep(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)])
            self._failures += 1

    async def _serve(self) -> None:
        line = await open_line(self.all.servers.client(self.address), self._heard)
        try:
            user, password, _ = credentials(self.all.servers.client(self.address))
            if password:
                line.send(["AUTH", *filter(None, (user, password))])
            line.send(["SUBSCRIBE", self.all.home])
            self.line = line
            self.ask(*self.all.wanted_on(self))
            await line.until_lost()
        finally:
            self.line = None
            line.close()

    def _heard(self, said: Any) -> None:
        if isinstance(said, list):
            if said[1] != self.all.home.encode():  # which is confirmed even where all others are refused
                self._failures = 0
            self.all.heard(self, said)
        elif isinstance(said, MovedError):
            self.all.moved(self, said)
        elif isinstance(said, ResponseError) and self.line is not None:
            _log.warning("redis refused a subscription", error=str(said).split(" ")[0], port=self.address.port)
            self.line.close()

    def ask(self, *names: str) -> None:
        """Subscribe, if connected; else that is done once it is."""
        if self.line is not None and names:
            verb = "SSUBSCRIBE" if self.all.servers.is_cluster else "SUBSCRIBE"
            self.line.send(*([verb, name] for name in names))

    def leave(self, name: str) -> None:
        """Unsubscribe, best effort."""
        if self.line is not None:
            self.line.send(["SUNSUBSCRIBE" if self.all.servers.is_cluster else "UNSUBSCRIBE", name])


@dataclass(slots=True)
class RedisSubscriptions:
    """PubSub of one node. ``home`` is a channel of its own, which keeps each connection in use."""

    servers: Servers
    home: str
    _channels: dict[bytes, _Channel] = field(default_factory=dict)
    _servers: dict[Address, _Server] = field(default_factory=dict)
    _hints: deque[Hint] = field(default_factory=deque)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: defaultdict[_Server, set[int]] = field(default_factory=lambda: defaultdict(set))

    async def subscribe(self, channel: str) -> None:
        """Return once it is confirmed. Raises Unavailable; it is subscribed all the same when Redis is back."""
        name = self.servers.name(channel)
        wanted = self._channels.get(name.encode())
        if wanted is None:
            wanted = self._channels[name.encode()] = _Channel(channel)
            self._place(name, wanted)
        if wanted.confirmed:
            return
        wanted.told = wanted.told or asyncio.Event()
        try:
            async with asyncio.timeout(CONFIRM_S):
                await wanted.told.wait()
        except TimeoutError as exc:
            wanted.before = True  # who subscribes goes on without it, so what comes before the confirmation is a gap
            raise Unavailable("Redis did not confirm the subscription") from exc

    async def unsubscribe(self, channel: str) -> None:
        name = self.servers.name(channel)
        wanted = self._channels.pop(name.encode(), None)
        if wanted is not None and wanted.server is not None:
            wanted.server.leave(name)

    async def hints(self) -> AsyncIterator[Sequence[Hint]]:
        """For ever. Every confirmation after a channel's first is a gap."""
        keeping = asyncio.create_task(self._keep_in_place())
        self._look.set()
        waiting = self._hints
        try:
            while True:
                while waiting:
                    yield [waiting.popleft() for _ in range(min(len(waiting), _AT_ONCE))]
                    await asyncio.sleep(0)
                self._some.clear()
                for line in self._connected():
                    line.go_on()
                await self._some.wait()
        finally:
            keeping.cancel()
            for server in self._servers.values():
                _end(server)
            self._servers.clear()

    def _connected(self) -> list[Line]:
        return [server.line for server in self._servers.values() if server.line is not None]

    async def _keep_in_place(self) -> None:
        """Whenever there is reason to, and now and then: read who has which slots, and move the channels there."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.servers.refresh()
                self._settle()
            except (Unavailable, *OUTAGES):
                self._look.set()
                await asyncio.sleep(_SETTLE_S * 5)
            await asyncio.sleep(_SETTLE_S)

    def _settle(self) -> None:
        owners = self.servers.owners
        for address in self._servers.keys() - owners:
            server = self._servers.pop(address)
            _end(server)
            self._strand(server, self.wanted_on(server))
        for address in owners - self._servers.keys():
            server = self._servers[address] = _Server(address, self)
            server.task = asyncio.create_task(server.run())
        for name, channel in self._channels.items():
            if not channel.confirmed:
                self._place(name.decode(), channel)

    def _place(self, name: str, channel: _Channel) -> None:
        address = self.servers.owner(name)
        server = self._servers.get(address) if address is not None else None
        if server is None:
            self._look.set()
        elif server is not channel.server:
            channel.server = server
            server.ask(name)

    def _strand(self, server: _Server, names: Iterable[str]) -> None:
        """These have no place on the connection any more."""
        for name in names:
            channel = self._channels.get(name.encode())
            if channel is not None and channel.server is server:
                channel.confirmed = False
                channel.server = None
        self._look.set()

    # what the servers say

    def wanted_on(self, server: _Server) -> list[str]:
        """The channels of this server."""
        return [name.decode() for name, channel in self._channels.items() if channel.server is server]

    def lost(self, server: _Server) -> None:
        """The connection has ended, and its server may have lost its slots."""
        for channel in self._channels.values():
            if channel.server is server:
                channel.confirmed = False
        self._look.set()

    def moved(self, server: _Server, error: MovedError) -> None:
        """A channel was asked of the wrong server."""
        self.servers.moved(error)
        if not self._moved:  # thousands come in one read, from a server that is a replica now
            asyncio.get_running_loop().call_soon(self._strand_moved)
        self._moved[server].add(error.slot_id)

    def _strand_moved(self) -> None:
        for server, slots in self._moved.items():
            self._strand(server, [name for name in self.wanted_on(server) if key_slot(name.encode()) in slots])
        self._moved.clear()

    def heard(self, server: _Server, said: list[Any]) -> None:
        """A message, a confirmation, or word that a channel's slot has gone to another server."""
        kind, name = said[0], said[1]
        channel = self._channels.get(name)
        if channel is None:
            if kind == b"message" and name == self.home.encode():
                self._keep(Hint(self.home, said[2]))
            return
        if kind in (b"message", b"smessage"):
            self._keep(Hint(channel.known_as, said[2]))
        elif channel.server is not server:
            return
        elif kind in (b"subscribe", b"ssubscribe"):
            channel.confirmed = True
            if channel.told is not None:
                channel.told.set()
                channel.told = None
            if channel.before:
                self._keep(Hint(channel.known_as, b"", gap=True))
            channel.before = True
        elif kind == b"sunsubscribe" and channel.confirmed:
            self._strand(server, [name.decode()])

    def _keep(self, hint: Hint) -> None:
        self._hints.append(hint)
        self._some.set()
        if len(self._hints) > _WAITING:
            for line in self._connected():
                line.rest()


def _end(server: _Server) -> None:
    if server.task is not None:
        server.task.cancel()


@asynccontextmanager
async def open_subscriptions(url: str, node: str) -> AsyncIterator[RedisSubscriptions]:
    """The subscriptions of a node; they work while somebody iterates over ``hints()``."""
    async with open_servers(url) as servers:
        yield RedisSubscriptions(servers, f"node:{node}")
