"""Subscriptions of a node: one connection to each server, and each channel on that of the server that owns its slot.

Pub/sub loses messages silently, so every confirmation after a channel's first (a connection opened anew, a slot that
has moved) is published as a gap.

A channel is *unplaced* (no server is known for its slot), *placed* (on a server, unconfirmed) or *confirmed*. A lost
connection makes its channels placed again, a moved slot unplaced; the next look at the slots places them anew.
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
from redis.exceptions import MovedError

from adapters.redis.client import OUTAGES
from adapters.redis.connection import RedisConnection
from adapters.redis.slot_client import SlotClient, open_slot_client
from adapters.redis.subscribed_server import SubscribedServer
from adapters.redis.target import Address
from domain.errors import Unavailable
from domain.pubsub import Hint

_log = structlog.get_logger()

CONFIRM_S = 2.0
_SETTLE_S = 0.1
_LOOK_S = 5.0
"""Seconds between looks at the slots without any reason: a node that hangs does not say that a replica took over."""
_MAX_WAITING = 10_000
_MAX_GROUP = 128
"""Hints in one turn of the loop. All that a turn brings to a socket is one write, but no turn may last for ever."""


@dataclass(slots=True, eq=False)
class _Channel:
    """Channel that is wanted: ``confirmed`` while subscribed on its server, ``before`` once it ever was.

    ``confirmation`` exists only while a caller waits for it, to save memory: a node has two channels for each user.
    """

    known_as: str
    server: SubscribedServer | None = None
    confirmed: bool = False
    before: bool = False
    confirmation: asyncio.Event | None = None

    def awaited(self) -> asyncio.Event:
        """Return the event of its confirmation, which is to come."""
        self.confirmation = self.confirmation or asyncio.Event()
        return self.confirmation


@dataclass(slots=True)
class RedisSubscriptions:
    """PubSub of one node. ``home`` is a channel of its own, which keeps each connection in use."""

    client: SlotClient
    home: str
    _channels: dict[bytes, _Channel] = field(default_factory=dict)
    _servers: dict[Address, SubscribedServer] = field(default_factory=dict)
    _hints: deque[Hint] = field(default_factory=deque)
    _has_hints: asyncio.Event = field(default_factory=asyncio.Event)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: defaultdict[SubscribedServer, set[int]] = field(default_factory=lambda: defaultdict(set))

    async def subscribe(self, *channels: str) -> None:
        """Return once all are confirmed. Raises Unavailable; they stay wanted and follow when Redis is back."""
        waiting = [(wanted, wanted.awaited()) for wanted in map(self._want, channels) if not wanted.confirmed]
        if not waiting:
            return
        try:
            async with asyncio.timeout(CONFIRM_S):
                for _, confirmation in waiting:
                    await confirmation.wait()
        except TimeoutError as exc:
            for wanted, _ in waiting:
                wanted.before = True  # the caller goes on without it, so all before the late confirmation is a gap
            raise Unavailable("Redis did not confirm the subscription") from exc
        for channel in channels:
            _log.debug("redis_subscribed", channel_kind=channel.partition(":")[0])

    def _want(self, channel: str) -> _Channel:
        name = self.client.name(channel)
        wanted = self._channels.get(name.encode())
        if wanted is None:
            wanted = self._channels[name.encode()] = _Channel(channel)
            self._place(name, wanted)
        return wanted

    async def unsubscribe(self, channel: str) -> None:
        name = self.client.name(channel)
        wanted = self._channels.pop(name.encode(), None)
        if wanted is not None and wanted.server is not None:
            wanted.server.unsubscribe(name)
            _log.debug("redis_unsubscribed", channel_kind=channel.partition(":")[0])

    async def hints(self) -> AsyncIterator[Sequence[Hint]]:
        """Yield hints for ever. Every confirmation after a channel's first is a gap."""
        keeping = asyncio.create_task(self._keep_in_place())
        self._look.set()
        waiting = self._hints
        try:
            while True:
                while waiting:
                    yield [waiting.popleft() for _ in range(min(len(waiting), _MAX_GROUP))]
                    await asyncio.sleep(0)
                self._has_hints.clear()
                # Reading pauses when too many hints wait, and resumes only when none does, not at each group.
                for connection in self._open_connections():
                    connection.resume_reading()
                await self._has_hints.wait()
        finally:
            keeping.cancel()
            for server in self._servers.values():
                server.end()
            self._servers.clear()

    def _open_connections(self) -> list[RedisConnection]:
        return [server.connection for server in self._servers.values() if server.connection is not None]

    async def _keep_in_place(self) -> None:
        """Read the owners of the slots at every event that may have changed them, and now and then if they may change
        at all; move channels."""
        look_s = None if self.client.is_alone else _LOOK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(look_s):  # wait_for may swallow a cancellation (Python before 3.12)
                    await self._look.wait()
            self._look.clear()
            try:
                await self.client.refresh()
                self._settle()
            except (Unavailable, *OUTAGES):
                self._look.set()
                await asyncio.sleep(_SETTLE_S * 5)
            await asyncio.sleep(_SETTLE_S)  # a burst of moves is one look

    def _settle(self) -> None:
        """Connect to new owners of slots, leave servers that own none, and place the channels that need it."""
        owners = self.client.owners
        for address in self._servers.keys() - owners:
            server = self._servers.pop(address)
            server.end()
            self._unplace(server, self.channels_on(server))
        for address in owners - self._servers.keys():
            server = self._servers[address] = SubscribedServer(address, self)
            server.task = asyncio.create_task(server.run())
        for name, channel in self._channels.items():
            if not channel.confirmed:
                self._place(name.decode(), channel)

    def _place(self, name: str, channel: _Channel) -> None:
        address = self.client.owner(name)
        server = self._servers.get(address) if address is not None else None
        if server is None:
            self._look.set()
        elif server is not channel.server:
            channel.server = server
            server.subscribe(name)

    def _unplace(self, server: SubscribedServer, names: Iterable[str]) -> None:
        """Take these channels off the server, unless they are on another one already."""
        for name in names:
            channel = self._channels.get(name.encode())
            if channel is not None and channel.server is server:
                channel.confirmed = False
                channel.server = None
        self._look.set()

    def channels_on(self, server: SubscribedServer) -> list[str]:
        """Return the channels that are placed on this server."""
        return [name.decode() for name, channel in self._channels.items() if channel.server is server]

    def lost(self, server: SubscribedServer) -> None:
        """Note that the connection has ended; its server may have lost its slots, too."""
        for channel in self._channels.values():
            if channel.server is server:
                channel.confirmed = False
        self._look.set()

    def moved(self, server: SubscribedServer, error: MovedError) -> None:
        """Note that a channel was subscribed on the wrong server."""
        self.client.moved(error)
        # A server that has become a replica answers thousands of subscriptions with MOVED in one read: gathered, they
        # cost one walk over the channels.
        if not self._moved:
            asyncio.get_running_loop().call_soon(self._unplace_moved)
        self._moved[server].add(error.slot_id)

    def _unplace_moved(self) -> None:
        for server, slots in self._moved.items():
            names = [name for name in self.channels_on(server) if key_slot(name.encode()) in slots]
            self._unplace(server, names)
            _log.debug("redis_channels_moved", server=server.name, channels=len(names))
        self._moved.clear()

    def on_push(self, server: SubscribedServer, push: list[Any]) -> None:
        """Take a message, a confirmation, or the server's notice that a channel's slot has gone."""
        kind, name = push[0], push[1]
        channel = self._channels.get(name)
        if channel is None:
            if kind == b"message" and name == self.home.encode():
                self._add(Hint(self.home, push[2]))
            return
        if kind in (b"message", b"smessage"):
            self._add(Hint(channel.known_as, push[2]))
        elif channel.server is not server:
            return  # a late confirmation of a server that the channel has left
        elif kind in (b"subscribe", b"ssubscribe"):
            self._confirm(channel)
        elif kind == b"sunsubscribe" and channel.confirmed:
            # The slot has migrated. After a SUNSUBSCRIBE of ours the channel is unknown, or not confirmed.
            self._unplace(server, [name.decode()])

    def _confirm(self, channel: _Channel) -> None:
        channel.confirmed = True
        if channel.confirmation is not None:
            channel.confirmation.set()
            channel.confirmation = None
        if channel.before:
            self._add(Hint(channel.known_as, b"", gap=True))
        channel.before = True

    def _add(self, hint: Hint) -> None:
        self._hints.append(hint)
        self._has_hints.set()
        if len(self._hints) > _MAX_WAITING:
            for connection in self._open_connections():
                connection.pause_reading()


@asynccontextmanager
async def open_subscriptions(url: str, node: str) -> AsyncIterator[RedisSubscriptions]:
    """Yield the subscriptions of a node; they work while its ``hints()`` are iterated over."""
    async with open_slot_client(url) as client:
        yield RedisSubscriptions(client, f"node:{node}")
