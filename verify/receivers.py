"""Devices that receive: steady ones, and those that lose connections, read slowly, die, or come late."""

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
    """One device in one conversation, with the behaviour of its kind, on the client library."""

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
    """It makes no trouble any more, and reads nothing new."""
    out: asyncio.Event = field(default_factory=asyncio.Event)
    """It was told that its user is no member any more."""

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
        """All that it does."""
        return [*self.tasks, self.trouble, self.acknowledging]

    @property
    def cursor(self) -> int:
        """The last contiguous seq on its screen."""
        return self.screen.seqs[-1] if self.screen.seqs else self.screen.after

    # Listener

    def on_start(self, seq: int) -> None:
        """The first join says after what this screen begins."""
        if not self.screen.seqs:
            self.screen.after = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        """The next content frame."""
        self.screen.seqs.append(seq)
        self.screen.times.append(time.monotonic())
        self.room.frames.same(seq, raw)
        if _OUT in raw:
            said = orjson.loads(raw)
            if said["type"] == "conversation_changed" and said["userId"] == self.screen.spec.user:
                self.screen.until = seq
                self.out.set()

    def on_ended(self, code: str, detail: str) -> None:
        """It was put out while it was away, or behind. Whether it had to be is judged later."""
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
        """Every few seconds, without a word."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.abort()

    async def sleeps(self) -> None:
        """Reads nothing for a while, again and again."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.pause_reading()
            await asyncio.sleep(self.chance.uniform(*_SLEEP_S))
            self.live.resume_reading()

    async def dies(self) -> None:
        """Ends, and starts again from what is on its screen."""
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
        """From now on no trouble of its own making, and nothing more to wait for than there is."""
        self.calm = True
        if self.trouble is not None:
            self.trouble.cancel()
        self.live.resume_reading()

    def fall_silent(self) -> None:
        """Everything is acknowledged: say no more."""
        if self.acknowledging is not None:
            self.acknowledging.cancel()

    async def close(self) -> None:
        """Go away, and keep what was counted."""
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
    """Somebody who tries to listen where they are no member."""

    room: Room
    urls: Sequence[str]
    token: str
    live: LiveConnection = field(init=False)

    def attach(self, live: LiveConnection) -> None:
        """Try to follow the conversation on this connection."""
        self.live = live
        live.subscribe(self.room.conversation_id, self, after=0)

    async def run(self) -> None:
        """Ask again and again, for ever."""
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
        """Must not happen."""
        self.room.frames_to_stranger += 1

    def on_content(self, seq: int, raw: bytes) -> None:
        """Must not happen."""
        self.room.frames_to_stranger += 1

    def on_ended(self, code: str, detail: str) -> None:
        """``not_found``, as it should be."""
        self.room.refused += code in OUT
