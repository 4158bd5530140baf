"""Receiving devices: steady ones, and those that lose connections, read slowly, die, come late, or come and go."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from millrace_client import Frame, Joined, Listener, LiveConnection, Subscription
from millrace_client.frames import Read

from verify.acknowledging import InsistentReceipts, LibraryReceipts, Receipts
from verify.behaviours import BEHAVIOURS, TROUBLE_S
from verify.history import Room, Screen, SentReceipt, Stay
from verify.sessions import SessionRecorder, Sessions
from verify.workload import DeviceKind

_ACK_S, _ACK_PHONE_S = 3.0, 1.0  # of a hundred devices and more: they are not what is to be stressed
_READ_EVERY = 4
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
    recorder: SessionRecorder = field(default_factory=lambda: SessionRecorder("", "", Sessions()))
    live: LiveConnection = field(init=False)
    subscription: Subscription = field(init=False)
    receipts: Receipts = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    trouble: asyncio.Task[None] | None = None
    acknowledging: asyncio.Task[None] | None = None
    calm: bool = False
    """The device makes no trouble any more, and reports nothing new as read."""
    is_away: bool = False
    """The device is a phone that has gone away."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first join, on whichever connection."""
    out: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the device hears that its user is no member any more."""

    def __post_init__(self) -> None:
        self.receipts = InsistentReceipts() if self.screen.spec.insistent else LibraryReceipts()

    def start(self) -> None:
        """Connect, stay connected, misbehave."""
        self.screen.asked, self.screen.asked_at = self.after, time.monotonic()
        self._connect(self.after)
        if self.screen.spec.kind in BEHAVIOURS:
            self.trouble = asyncio.create_task(BEHAVIOURS[self.screen.spec.kind](self))
        self.acknowledging = asyncio.create_task(self._acknowledge())

    def _connect(self, after: int | None) -> None:
        if self.screen.spec.kind is DeviceKind.PHONE:
            self.screen.stays.append(Stay(time.monotonic()))
        live = LiveConnection(
            self.urls, self.token, listener=self.recorder, device=self.screen.spec.device, persistent=True
        )
        self.attach(live, after)
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
        self.ready.set()
        if self.screen.began_at is None:
            self.screen.after, self.screen.began_at = seq, time.monotonic()

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

    def on_reset(self, seq: int) -> None:
        """Take what is above the seq off the screen: it comes anew."""
        self.screen.reset(seq)

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Record a frame that is not content."""
        if isinstance(frame, Joined):
            self.screen.joined_at = time.monotonic()
            self.receipts.joined(frame)
        self.recorder.on_frame(frame, raw)

    def on_ended(self, code: str, detail: str) -> None:
        """Note that the user is no member; the checker decides whether that is right."""
        if code in OUT and self.screen.until is None:
            self.screen.until = self.cursor
            self.out.set()

    # receipts

    async def _acknowledge(self) -> None:
        every_s = _ACK_PHONE_S if self.screen.spec.kind is DeviceKind.PHONE else _ACK_S
        rounds = self.chance.randrange(_READ_EVERY)
        while True:
            await asyncio.sleep(every_s)
            rounds += 1
            await self.acknowledge(read=not self.calm and not rounds % _READ_EVERY)

    async def acknowledge(self, *, read: bool = False) -> None:
        """Report what is on the screen, and with ``read`` that its user has read it."""
        for receipt in self.receipts.due(self.subscription.sync, read=read):
            self.screen.receipts.append(
                SentReceipt(time.monotonic(), receipt.seq, receipt.seq if isinstance(receipt, Read) else 0)
            )
            await self.live.send(receipt)

    # coming and going

    def restart(self) -> None:
        """Abandon the connection, and start another one from the screen's last seq, as a new process does."""
        self._note()
        self.live.stop(abruptly=True)
        self.recorder.on_disconnected("restarted")
        self._connect(self.cursor if self.screen.seqs else self.after)

    async def go_away(self) -> None:
        """Close the connection; return once it is closed."""
        self.is_away = True
        self._note()
        try:
            await self.live.close()
            self.tasks[-1].cancel()  # it may be opening a connection
            await asyncio.wait({self.tasks[-1]})
        finally:
            self.recorder.on_disconnected("went away")
            self.screen.stays[-1].ended = time.monotonic()

    def come_back(self) -> None:
        """Connect again, from the screen's last seq."""
        self.is_away = False
        self._connect(self.cursor if self.screen.seqs else self.after)

    async def rest(self) -> None:
        """Stop making trouble, and report nothing more as read. A phone stays, or is away from now on."""
        self.behave()
        if self.screen.spec.kind is not DeviceKind.PHONE:
            return
        if self.chance.random() < 0.5:
            if self.is_away:
                self.come_back()
        else:
            if not self.is_away:
                await self.go_away()
            self.fall_silent()
            self.screen.until, self.screen.has_left = self.cursor, True

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
        if not self.is_away:
            self._note()
        await self.live.close()
        self.recorder.on_disconnected("closed")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(slots=True)
class IdleDevice:
    """A connected device whose user follows no conversation: it is sent hints, watermarks and notifications."""

    urls: Sequence[str]
    token: str
    recorder: SessionRecorder

    async def run(self) -> None:
        """Stay connected until cancelled."""
        live = LiveConnection(self.urls, self.token, listener=self.recorder, device="idle", persistent=True)
        try:
            await live.run()
        finally:
            await live.close()
            self.recorder.on_disconnected("closed")


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
                    await asyncio.sleep(random.uniform(*TROUBLE_S))
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
