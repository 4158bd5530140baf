"""One run: clients talk and listen while the stack is being broken; then it heals, and everything comes to rest."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx2
from millrace_client import HttpClient, RetryingTransport

from domain.errors import Unavailable
from stack.errors import OperatorError
from verify.checker import GRACE_S
from verify.errors import must_live
from verify.final_state import Store, Truth
from verify.history import Evidence, Room, Screen
from verify.nemesis import Breaker
from verify.quiescence import QUIET_S, Rest
from verify.receivers import Device, Stranger
from verify.recovery import note_recoveries
from verify.sampler import Sampler, read_truth
from verify.senders import Senders
from verify.workload import Kind, RoomScript, Seat

Lags: TypeAlias = Callable[[], Awaitable[list[str]]]
Observe: TypeAlias = Callable[[httpx2.AsyncClient, Sequence[Room]], tuple[Store, Lags]]
"""For the rooms of a run: where their truth is read, and what tells which groups are behind."""

_JOIN_S = 60.0
_OUT_AT = 0.35
_LATE_AT = (0.2, 0.8)
_LEAVER = "parlour"
_STAYS_S = 3.0


@dataclass(slots=True)
class Run:
    """The clients of a run, and what they saw. ``http`` and ``ws`` are the front doors."""

    evidence: Evidence
    http: Sequence[str]
    ws: Sequence[str]
    token: Callable[[str], str]
    seconds: float
    rng: random.Random
    say: Callable[[str], None] = lambda _: None
    devices: list[Device] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def go(self, scripts: Sequence[RoomScript], breaker: Breaker | None, observe: Observe) -> list[Truth]:
        """Everything but the verdict; returns what the store holds at the end. Raises OperatorError, Unavailable."""
        limits = httpx2.Limits(max_connections=128, max_keepalive_connections=128)
        async with (
            httpx2.AsyncClient(timeout=10, limits=limits) as client,
            httpx2.AsyncClient(base_url=self.http[0], timeout=5, limits=limits) as at_door,
        ):
            door = RetryingTransport(at_door)
            try:
                await self._open(scripts, door)
                store, lags = observe(client, self.evidence.rooms)
                await self._talk(client, door, breaker, Sampler(store, self.evidence))
                await Rest(self.evidence, store, self.devices, lags, self.say).wait()
                must_live([*self.tasks, *(client for device in self.devices for client in device.clients)])
                self._note_recoveries()
                return await read_truth(store)
            finally:
                try:
                    if breaker is not None:
                        await breaker.heal()
                finally:
                    await self._close()

    # opening

    async def _open(self, scripts: Sequence[RoomScript], door: RetryingTransport) -> None:
        rooms = [Room(script) for script in scripts]
        await asyncio.gather(*(self._create(room, door) for room in rooms))
        self.evidence.rooms += rooms
        for room in rooms:
            for seat in room.script.seats:
                if seat.kind is not Kind.LATE:
                    self._seat(room, seat, after=0)
            self._seat(room, Seat(user=room.script.leaver, device=_LEAVER, kind=Kind.STEADY), after=0)
            stranger = Stranger(room, self.ws, self.token(room.script.stranger))
            self.tasks.append(asyncio.create_task(stranger.run()))
        await self._joined(_JOIN_S)

    async def _joined(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(device.subscription.ready.wait() for device in self.devices))
        except TimeoutError as exc:
            must_live(client for device in self.devices for client in device.clients)
            waiting = sum(not device.subscription.ready.is_set() for device in self.devices)
            raise OperatorError(f"{waiting} of {len(self.devices)} devices did not join in {within_s:.0f} s") from exc

    async def _create(self, room: Room, door: RetryingTransport) -> None:
        owner, *others = room.script.members
        room.conversation_id = await self._user(owner, door).create_conversation(others, "verified")

    def _user(self, user: str, door: RetryingTransport) -> HttpClient:
        return HttpClient(door, self.token(user))

    def _seat(self, room: Room, seat: Seat, after: int | None) -> Device:
        screen = Screen(seat)
        device = Device(room, screen, self.ws, self.token(seat.user), after, random.Random(self.rng.random()))
        room.screens.append(screen)
        self.devices.append(device)
        device.start()
        return device

    # talking

    async def _talk(
        self, client: httpx2.AsyncClient, door: RetryingTransport, breaker: Breaker | None, sampler: Sampler
    ) -> None:
        sampling = asyncio.create_task(sampler.run())
        async with asyncio.TaskGroup() as group:
            group.create_task(Senders(client, self.http, self.token).run(self.evidence.rooms))
            if breaker is not None:
                group.create_task(breaker.run())
            for room in self.evidence.rooms:
                group.create_task(self._out_and_back(room, door))
                for seat in room.script.seats:
                    if seat.kind is Kind.LATE:
                        group.create_task(self._come_late(room, seat))
        for device in self.devices:
            device.behave()
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling
        with suppress(Unavailable):
            await sampler.look()

    async def _come_late(self, room: Room, seat: Seat) -> None:
        await asyncio.sleep(self.seconds * self.rng.uniform(*_LATE_AT))
        self._seat(room, seat, after=0)

    async def _out_and_back(self, room: Room, door: RetryingTransport) -> None:
        owner, leaver = self._user(room.script.owner, door), room.script.leaver
        device = next(d for d in self.devices if d.room is room and d.screen.seat.user == leaver)
        await asyncio.sleep(self.seconds * _OUT_AT)
        unasked = device.out.is_set()
        await owner.remove_member(room.conversation_id, leaver)
        if not unasked:
            device.screen.removed_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await device.out.wait()
            await asyncio.sleep(GRACE_S + _STAYS_S)  # so that something could still reach it
        must_live(device.clients)
        await device.close()
        self.devices.remove(device)
        await owner.add_member(room.conversation_id, leaver)
        self._seat(room, Seat(user=leaver, device=_LEAVER, kind=Kind.STEADY), after=None)

    # closing

    async def _close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*(device.close() for device in self.devices), *self.tasks, return_exceptions=True)

    def _note_recoveries(self) -> None:
        deliveries = []
        for room in self.evidence.rooms:
            sent = {s.accepted.seq: s.tries[0].began for s in room.sendings if s.accepted}
            for screen in (s for s in room.screens if s.seat.kind is Kind.STEADY):
                pairs = zip(screen.seqs, screen.times, strict=True)
                deliveries += [(sent[seq], at) for seq, at in pairs if seq in sent]
        note_recoveries(self.evidence.blows, deliveries)
