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
from millrace_client.connection import Live

from verify.history import Room, Screen
from verify.workload import Kind

_ACK_S = 3.0  # of a hundred devices and more: they are not what is to be stressed
_READ_EVERY = 4
_TROUBLE_S = (2.0, 7.0)
_SLEEP_S = (0.5, 3.0)
_OUT = b'"change":"member_removed"'


@dataclass(slots=True)
class Device:
    """One device in one conversation, with the behaviour of its kind. It is a screen of millrace_client.connection."""

    room: Room
    screen: Screen
    urls: Sequence[str]
    token: str
    after: int | None = 0
    chance: random.Random = field(default_factory=random.Random)
    live: Live = field(init=False)
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
        if self.screen.seat.kind in _BEHAVIOURS:
            self.trouble = asyncio.create_task(_BEHAVIOURS[self.screen.seat.kind](self))
        self.acknowledging = asyncio.create_task(self._acknowledge())

    def _connect(self, after: int | None) -> None:
        urls = tuple(f"{url}?device={self.screen.seat.device}" for url in self.urls)
        self.live = Live(urls, self.token, self.room.conversation_id, self, after=after)
        self.tasks.append(asyncio.create_task(self.live.run()))

    @property
    def clients(self) -> Sequence[asyncio.Task[None] | None]:
        """All that it does."""
        return [*self.tasks, self.trouble, self.acknowledging]

    @property
    def cursor(self) -> int:
        """The last contiguous seq on its screen."""
        return self.screen.seqs[-1] if self.screen.seqs else self.screen.after

    # what millrace_client.connection tells

    def joined(self, seq: int) -> None:
        """The first join says after what this screen begins."""
        if not self.screen.seqs:
            self.screen.after = seq

    def shown(self, seq: int, raw: bytes) -> None:
        """The next content frame."""
        self.screen.seqs.append(seq)
        self.screen.times.append(time.monotonic())
        self.room.frames.same(seq, raw)
        if _OUT in raw:
            said = orjson.loads(raw)
            if said["type"] == "conversation_changed" and said["userId"] == self.screen.seat.user:
                self.screen.until = seq
                self.out.set()

    def other(self, said: dict[str, Any]) -> None:
        """It was put out while it was away, or behind. Whether it had to be is judged later."""
        if self.live.is_out(said) and self.screen.until is None:
            self.screen.until = self.cursor
            self.out.set()

    # behaviours

    async def _acknowledge(self) -> None:
        rounds = self.chance.randrange(_READ_EVERY)
        while True:
            await asyncio.sleep(_ACK_S)
            rounds += 1
            await self.live.acknowledge(read=not self.calm and not rounds % _READ_EVERY)

    async def loses_connections(self) -> None:
        """Every few seconds, without a word."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.cut()

    async def sleeps(self) -> None:
        """Reads nothing for a while, again and again."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self.live.awake.clear()
            await asyncio.sleep(self.chance.uniform(*_SLEEP_S))
            self.live.awake.set()

    async def dies(self) -> None:
        """Ends, and starts again from what is on its screen."""
        while True:
            await asyncio.sleep(self.chance.uniform(*_TROUBLE_S))
            self._note()
            self.live.end()
            self._connect(self.cursor if self.screen.seqs else self.after)

    def _note(self) -> None:
        self.screen.repeats += self.live.raw_repeats
        self.screen.gaps += self.live.gaps
        self.screen.reconnects += self.live.reconnects

    def behave(self) -> None:
        """From now on no trouble of its own making, and nothing more to wait for than there is."""
        self.calm = True
        if self.trouble is not None:
            self.trouble.cancel()
        self.live.awake.set()

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


_BEHAVIOURS: dict[Kind, Callable[[Device], Any]] = {
    Kind.FLAKY: Device.loses_connections,
    Kind.SLOW: Device.sleeps,
    Kind.DYING: Device.dies,
}


@dataclass(slots=True)
class Stranger:
    """Somebody who tries to listen where they are no member."""

    room: Room
    urls: Sequence[str]
    token: str
    live: Live = field(init=False)

    async def run(self) -> None:
        """Ask again and again, for ever."""
        self.live = Live(tuple(self.urls), self.token, self.room.conversation_id, self, after=0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.live.run())
                while True:
                    await asyncio.sleep(random.uniform(*_TROUBLE_S))
                    self.live.cut()
        finally:
            await self.live.close()

    def joined(self, seq: int) -> None:
        """Must not happen."""
        self.room.strange += 1

    def shown(self, seq: int, raw: bytes) -> None:
        """Must not happen."""
        self.room.strange += 1

    def other(self, said: dict[str, Any]) -> None:
        """``not_found``, as it should be."""
        self.room.refused += self.live.is_out(said)
