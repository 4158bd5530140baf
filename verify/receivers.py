"""Receiving devices: steady ones, and those that lose connections, read slowly, die, or come late."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from millrace_client import Listener, LiveConnection, Subscription

from verify.history import Room, Screen
from verify.workload import DeviceKind

_ACK_S = 3.0  # of a hundred devices and more: they are not what is to be stressed
_READ_EVERY = 4
_TROUBLE_S = (2.0, 7.0)
_SLEEP_S = (0.5, 3.0)
_OUT = b'"change":"member_removed"'
OUT = frozenset({"removed", "not_found"})
"""Codes with which a conversation ends for who is no member."""


@dataclass(slots=True)
class Device(Listener):
    """A device in a conversation, on the client library, with the behaviour of its kind."""

    room: Room
    screen: Screen
    urls: Sequence[str]
    token: str
    after: int | None = 0
    chance: random.Random = field(default_factory=random.Random)
    live: LiveConnection = field(init=False)
    subscription: Subscription = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    trouble: asyncio.Task[None] | None = None
    acknowledging: asyncio.Task[None] | None = None
    calm: bool = False
    """The device makes no trouble any more, and reports nothing new as read."""
    out: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the device hears that its user is no member any more."""

    def start(self) -> None:
        """Connect, stay connected, misbehave."""
        self._connect(self.after)
        if self.screen.spec.kind in _BEHAVIOURS:
            self.trouble = asyncio.create_task(_BEHAVIOURS[self.screen.spec.kind](self))
        self.acknowledging = asyncio.create_task(self._acknowledge())

    def _connect(self, after: int | None) -> None:
        self.attach(LiveConnection(self.urls, self.token, device=self.screen.spec.device, persistent=True), after)
        self.tasks.append(asyncio.create_task(self.live.run()))

    def attach(self, live: LiveConnection, after: int | None) -> None:
        """Follow the conversation on this connection."""
        self.live = live
        self.subscription = live.subscribe(self.room.conversation_id, self, after=after)

    @property
    def clients(self) -> Sequence[asyncio.Task[None] | None]:
        """Tasks of the device."""
        return [*self.tasks, self.trouble, self.acknowledging]

    @property
    def cursor(self) -> int:
        """Last contiguous seq on the screen."""
        return self.screen.seqs[-1] if self.screen.seqs else self.screen.after

    # Listener

    def on_start(self, seq: int) -> None:
        """Note where the screen begins."""
        if not self.screen.seqs:
            self.screen.after = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        """Put the next content frame on the screen."""
        self.screen.seqs.append(seq)
        self.screen.times.append(time.monotonic())
        self.room.frames.same(seq, raw)
        if _OUT in raw:
            frame = orjson.loads(raw)
            if frame["type"] == "conversation_changed" and frame["userId"] == self.screen.spec.user:
                self.screen.until = seq
                self.out.set()

    def on_ended(self, code: str, detail: str) -> None:
        """Note that the user is no member; the checker decides whether that is right."""
        if code in OUT and self.screen.until is None:
            self.screen.until = self.cursor
            self.out.set()

    # behaviours

    async def _acknowledge(self) -> None:
        rounds = self.chance.randrange(_READ_EVERY)
        while True:
            await asyncio.sleep(_ACK_S)
            rounds += 1
            await self.subscription.acknowledge(read=not self.calm and not rounds % _READ_EVERY)

    async def loses_connections(self) -> None:
        """Cut the connection every few seconds."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.abort()

    async def sleeps(self) -> None:
        """Stop reading for a while, again and again."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.pause_reading()
            await asyncio.sleep(self.chance.uniform(*_SLEEP_S))
            self.live.resume_reading()

    async def dies(self) -> None:
        """Abandon the connection, and start another one from the screen's last seq, again and again."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self._note()
            self.live.stop(abruptly=True)
            self._connect(self.cursor if self.screen.seqs else self.after)

    def _note(self) -> None:
        self.screen.repeats += self.subscription.sync.repeats
        self.screen.gaps += self.subscription.sync.gaps
        self.screen.reconnects += self.live.reconnects

    def behave(self) -> None:
        """Stop making trouble, and report nothing more as read."""
        self.calm = True
        if self.trouble is not None:
            self.trouble.cancel()
        self.live.resume_reading()

    def fall_silent(self) -> None:
        """Stop sending receipts: everything is acknowledged."""
        if self.acknowledging is not None:
            self.acknowledging.cancel()

    async def close(self) -> None:
        """Close the connection, and keep its counters."""
        self.behave()
        self.fall_silent()
        self._note()
        await self.live.close()
        for task in self.tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self.tasks, return_exceptions=True)


_BEHAVIOURS: dict[DeviceKind, Callable[[Device], Any]] = {
    DeviceKind.FLAKY: Device.loses_connections,
    DeviceKind.SLOW: Device.sleeps,
    DeviceKind.DYING: Device.dies,
}


@dataclass(slots=True)
class Stranger(Listener):
    """A user who tries to follow a conversation without being a member."""

    room: Room
    urls: Sequence[str]
    token: str
    live: LiveConnection = field(init=False)

    def attach(self, live: LiveConnection) -> None:
        """Try to follow the conversation on this connection."""
        self.live = live
        live.subscribe(self.room.conversation_id, self, after=0)

    async def run(self) -> None:
        """Join again and again, until cancelled."""
        self.attach(LiveConnection(self.urls, self.token, persistent=True))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.live.run())
                while True:
                    await asyncio.sleep(random.uniform(*_TROUBLE_S))
                    self.live.abort()
        finally:
            await self.live.close()

    def on_start(self, seq: int) -> None:
        """Count a join that must be refused."""
        self.room.frames_to_stranger += 1

    def on_content(self, seq: int, raw: bytes) -> None:
        """Count a frame that must not arrive."""
        self.room.frames_to_stranger += 1

    def on_ended(self, code: str, detail: str) -> None:
        """Count the refusal, as it should be."""
        self.room.refused += code in OUT
