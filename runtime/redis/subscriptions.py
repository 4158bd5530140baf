"""Subscribing: one connection to each server, and a channel on that of the server that has its slot.

Pub/sub loses silently, so every confirmation after a channel's first (a connection made anew, a slot that has moved)
is told of as a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio.client import PubSub
from redis.crc import key_slot
from redis.exceptions import MovedError

from runtime.errors import Unavailable
from runtime.ports import Hint
from runtime.redis.client import OUTAGES, Address
from runtime.redis.servers import Servers, open_servers, untagged

_log = structlog.get_logger()

CONFIRM_S = 2.0
_READ_S = 1.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_SETTLE_S = 0.1
_LOOK_S = 5.0
"""Slots are read so often without any reason: a node that stands still does not say that a replica has taken over."""
_WAITING = 10_000


@dataclass(slots=True, eq=False)
class _Channel:
    """A channel that is wanted; ``confirmed`` while its server has said so last, ``before`` once it ever has."""

    line: _Line | None = None
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    before: bool = False


@dataclass(slots=True, eq=False)
class _Line:
    """The connection to one server. It is made again for ever."""

    address: Address
    all: RedisSubscriptions
    pubsub: PubSub | None = None
    task: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """What is decided last is also written last."""

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                async for said in self._connection():
                    failures = 0
                    await self.all.heard(self, said)
            except OUTAGES as exc:
                _log.warning("redis subscription lost", error=type(exc).__name__, port=self.address.port)
            self.pubsub = None
            self.all.lost(self)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _connection(self) -> AsyncIterator[dict[str, Any]]:
        pubsub = self.all.servers.client(self.address).pubsub()
        try:
            await pubsub.subscribe(self.all.home)
            self.pubsub = pubsub
            for name in self.all.wanted_on(self):
                await self.ask(name)
            while True:
                try:
                    said = await pubsub.get_message(ignore_subscribe_messages=False, timeout=_READ_S)
                except MovedError as exc:
                    self.all.moved(self, exc)
                    continue
                if said is not None:
                    yield said
        finally:
            with suppress(*OUTAGES):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def ask(self, name: str) -> None:
        """Subscribe, if connected and the channel is still wanted here; else that is done once it is."""
        async with self.turn:
            if self.pubsub is not None and self.all.wants(self, name):
                await (self.pubsub.ssubscribe if self.all.servers.is_cluster else self.pubsub.subscribe)(name)

    async def leave(self, name: str) -> None:
        """Unsubscribe, best effort, unless the channel is wanted here again."""
        async with self.turn:
            if self.pubsub is not None and not self.all.wants(self, name):
                with suppress(*OUTAGES):
                    await (self.pubsub.sunsubscribe if self.all.servers.is_cluster else self.pubsub.unsubscribe)(name)


@dataclass(slots=True)
class RedisSubscriptions:
    """Subscriptions of one node. ``home`` is a channel of its own, which keeps each connection in use."""

    servers: Servers
    home: str
    _channels: dict[str, _Channel] = field(default_factory=dict)
    _lines: dict[Address, _Line] = field(default_factory=dict)
    _hints: asyncio.Queue[Hint] = field(default_factory=lambda: asyncio.Queue(_WAITING))
    _look: asyncio.Event = field(default_factory=asyncio.Event)

    async def subscribe(self, channel: str) -> None:
        """Return once it is confirmed. Raises Unavailable; it is subscribed all the same when Redis is back."""
        name = self.servers.name(channel)
        wanted = self._channels.get(name)
        try:
            async with asyncio.timeout(CONFIRM_S):
                if wanted is None:
                    wanted = self._channels[name] = _Channel()
                    await self._place(name, wanted)
                await wanted.confirmed.wait()
        except OUTAGES as exc:
            raise Unavailable("Redis did not confirm the subscription") from exc

    async def unsubscribe(self, channel: str) -> None:
        name = self.servers.name(channel)
        wanted = self._channels.pop(name, None)
        if wanted is not None and wanted.line is not None:
            await wanted.line.leave(name)

    async def hints(self) -> AsyncIterator[Hint]:
        """For ever. Every confirmation after a channel's first is a gap."""
        keeping = asyncio.create_task(self._keep_in_place())
        self._look.set()
        try:
            while True:
                yield await self._hints.get()
        finally:
            keeping.cancel()
            for line in self._lines.values():
                _end(line)
            self._lines.clear()

    async def _keep_in_place(self) -> None:
        """Whenever there is reason to, and now and then: read who has which slots, and move the channels there."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.servers.refresh()
                await self._settle()
            except (Unavailable, *OUTAGES):
                self._look.set()
                await asyncio.sleep(_SETTLE_S * 5)
            await asyncio.sleep(_SETTLE_S)

    async def _settle(self) -> None:
        owners = self.servers.owners
        for address in self._lines.keys() - owners:
            line = self._lines.pop(address)
            _end(line)
            self._strand(line, self.wanted_on(line))
        for address in owners - self._lines.keys():
            line = self._lines[address] = _Line(address, self)
            line.task = asyncio.create_task(line.run())
        for name, channel in list(self._channels.items()):
            if not channel.confirmed.is_set():
                await self._place(name, channel)

    async def _place(self, name: str, channel: _Channel) -> None:
        address = self.servers.owner(name)
        line = self._lines.get(address) if address is not None else None
        if line is None:
            self._look.set()
        elif line is not channel.line:
            channel.line = line
            try:
                await line.ask(name)
            except (Exception, asyncio.CancelledError):
                if channel.line is line:  # it may not have been asked for: somebody else does it
                    channel.line = None
                    self._look.set()
                raise

    def _strand(self, line: _Line, names: Iterable[str]) -> None:
        """These have no place on the connection any more."""
        for name in names:
            channel = self._channels.get(name)
            if channel is not None and channel.line is line:
                channel.confirmed.clear()
                channel.line = None
        self._look.set()

    # what the lines say

    def wants(self, line: _Line, name: str) -> bool:
        """Whether the channel's place is on this connection."""
        channel = self._channels.get(name)
        return channel is not None and channel.line is line

    def wanted_on(self, line: _Line) -> list[str]:
        """The channels of this connection."""
        return [name for name, channel in self._channels.items() if channel.line is line]

    def lost(self, line: _Line) -> None:
        """The connection has ended, and its server may have lost its slots."""
        for name in self.wanted_on(line):
            self._channels[name].confirmed.clear()
        self._look.set()

    def moved(self, line: _Line, error: MovedError) -> None:
        """A channel was asked of the wrong server."""
        self.servers.moved(error)
        self._strand(line, [name for name in self.wanted_on(line) if key_slot(name.encode()) == error.slot_id])

    async def heard(self, line: _Line, said: dict[str, Any]) -> None:
        """A message, a confirmation, or word that a channel's slot has gone to another server."""
        kind, name = said["type"], said["channel"].decode() if said["channel"] is not None else ""
        if kind in ("message", "smessage"):
            await self._hints.put(Hint(untagged(name), said["data"]))
            return
        channel = self._channels.get(name)
        if channel is None or channel.line is not line:
            return
        if kind in ("subscribe", "ssubscribe"):
            channel.confirmed.set()
            if channel.before:
                await self._hints.put(Hint(untagged(name), b"", gap=True))
            channel.before = True
        elif kind == "sunsubscribe" and channel.confirmed.is_set():
            self._strand(line, [name])


def _end(line: _Line) -> None:
    if line.task is not None:
        line.task.cancel()


@asynccontextmanager
async def open_subscriptions(url: str, node: str) -> AsyncIterator[RedisSubscriptions]:
    """The subscriptions of a node; they work while somebody iterates over ``hints()``."""
    async with open_servers(url) as servers:
        yield RedisSubscriptions(servers, f"node:{node}")
