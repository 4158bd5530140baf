"""A run: clients send and receive while faults are injected; then all is healed, and the run waits for quiescence."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2
from millrace_client import HttpClient, RetryingTransport

from domain.errors import Unavailable
from stack.errors import OperatorError
from verify.activity import Access, Activity
from verify.errors import raise_if_dead
from verify.final_state import FinalState, Store
from verify.history import History, Room, Screen
from verify.inboxes import read_inboxes
from verify.nemesis import Nemesis
from verify.quiescence import Quiescence
from verify.receivers import Device, IdleDevice, Stranger
from verify.recovery import measured, set_recoveries
from verify.sampler import Sampler, read_final_states
from verify.senders import Senders
from verify.sessions import SessionRecorder
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload

Lags: TypeAlias = Callable[[], Awaitable[list[str]]]
Observe: TypeAlias = Callable[[httpx2.AsyncClient, Sequence[Room]], tuple[Store, Lags]]
"""Given the rooms of a run, returns the store that holds their state, and a function that returns lagging groups."""

_JOIN_S = 120.0
_ANSWER_S, _PATIENCE_S = 15.0, 120.0
_OUT_AT, _OUT_FOR = 0.35, 0.3
"""Shares of the load after which the leaver is removed, and for which it stays out."""
_OUT_AT_LEAST_S = 6.0
_LATE_AT = (0.2, 0.8)
_LEAVER = "parlour"


@dataclass(slots=True)
class Run:
    """The clients of a run and their history. ``http`` and ``ws`` are the public URLs of the stack.

    ``activities`` go on while messages are sent and faults are injected; ``at_rest`` observe the end, once everybody
    has everything.
    """

    history: History
    http: Sequence[str]
    ws: Sequence[str]
    token: Callable[[str], str]
    seconds: float
    rng: random.Random
    say: Callable[[str], None] = lambda _: None
    activities: Sequence[Activity] = ()
    at_rest: Sequence[Callable[[], Awaitable[None]]] = ()
    devices: list[Device] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def go(
        self, workloads: Sequence[RoomWorkload], nemesis: Nemesis | None, observe: Observe
    ) -> list[FinalState]:
        """Carry out the run; return the final states. Raises OperatorError, Unavailable, MillraceClientError."""
        limits = httpx2.Limits(max_connections=128, max_keepalive_connections=128)
        async with (
            httpx2.AsyncClient(timeout=10, limits=limits) as client,
            httpx2.AsyncClient(base_url=self.http[0], timeout=_ANSWER_S, limits=limits) as at_door,
        ):
            door = RetryingTransport(at_door, patience_s=self.seconds + _PATIENCE_S)
            try:
                await self._open(workloads, door)
                access = Access(self.http, self.ws, self.token, client, door)
                for activity in self.activities:
                    await activity.prepare(access, self.history.rooms)
                store, lags = observe(client, self.history.rooms)
                await self._talk(client, door, nemesis, Sampler(store, self.history))
                await asyncio.gather(*(activity.settle() for activity in self.activities))
                await Quiescence(self.history, store, self.devices, lags, self.say).wait()
                raise_if_dead([*self.tasks, *(client for device in self.devices for client in device.clients)])
                await asyncio.gather(*(look() for look in self.at_rest))
                self._set_recoveries()
                self.history.rested_at = time.monotonic()
                self.history.inboxes = await read_inboxes(access, self.history.rooms)
                return await read_final_states(store)
            finally:
                try:
                    if nemesis is not None:
                        await nemesis.heal()
                finally:
                    await self._close()

    # opening

    async def _open(self, workloads: Sequence[RoomWorkload], door: RetryingTransport) -> None:
        rooms = [Room(workload) for workload in workloads]
        await asyncio.gather(*(self._create(room, door) for room in rooms))
        self.history.rooms += rooms
        for room in rooms:
            for spec in room.workload.devices:
                if spec.kind is not DeviceKind.LATE:
                    self._add_device(room, spec, after=0)
            self._add_device(
                room, DeviceSpec(user=room.workload.leaver, device=_LEAVER, kind=DeviceKind.STEADY), after=0
            )
            stranger = Stranger(room, self.ws, self.token(room.workload.stranger))
            self.tasks.append(asyncio.create_task(stranger.run()))
        for user in sorted({user for workload in workloads for user in workload.idle}):
            idle = IdleDevice(self.ws, self.token(user), self._recorder(user, "idle", ""))
            self.tasks.append(asyncio.create_task(idle.run()))
        await self._joined(_JOIN_S)

    async def _joined(self, within_s: float) -> None:
        joins = {asyncio.create_task(device.ready.wait()) for device in self.devices}
        _, waiting = await asyncio.wait(joins, timeout=within_s)
        for join in waiting:
            join.cancel()
        if waiting:
            raise_if_dead(client for device in self.devices for client in device.clients)
            raise OperatorError(f"{len(waiting)} of {len(joins)} devices did not join in {within_s:.0f} s")

    async def _create(self, room: Room, door: RetryingTransport) -> None:
        owner, *others = room.workload.members
        room.conversation_id = await self._user(owner, door).create_conversation(others, "verified")

    def _user(self, user: str, door: RetryingTransport) -> HttpClient:
        return HttpClient(door, self.token(user))

    def _add_device(self, room: Room, spec: DeviceSpec, after: int | None) -> Device:
        screen = Screen(spec)
        chance, recorder = (
            random.Random(self.rng.random()),
            self._recorder(spec.user, spec.device, room.conversation_id),
        )
        device = Device(room, screen, self.ws, self.token(spec.user), after, chance, recorder)
        room.screens.append(screen)
        self.devices.append(device)
        device.start()
        return device

    def _recorder(self, user: str, device: str, follows: str) -> SessionRecorder:
        removed_from = {room.conversation_id for room in self.history.rooms if room.workload.leaver == user}
        return SessionRecorder(user, device, self.history.sessions, follows, removed_from)

    # talking

    async def _talk(
        self, client: httpx2.AsyncClient, door: RetryingTransport, nemesis: Nemesis | None, sampler: Sampler
    ) -> None:
        with _beside([sampler.run(), *(activity.run() for activity in self.activities)]) as beside:
            async with asyncio.TaskGroup() as group:
                group.create_task(Senders(client, self.http, self.token).run(self.history.rooms))
                if nemesis is not None:
                    group.create_task(nemesis.run())
                for room in self.history.rooms:
                    group.create_task(self._out_and_back(room, door))
                    for spec in room.workload.devices:
                        if spec.kind is DeviceKind.LATE:
                            group.create_task(self._come_late(room, spec))
        await asyncio.gather(*(device.rest() for device in self.devices))
        await asyncio.wait(beside)
        raise_if_dead(beside)
        with suppress(Unavailable):
            await sampler.sample()

    async def _come_late(self, room: Room, spec: DeviceSpec) -> None:
        await asyncio.sleep(self.seconds * self.rng.uniform(*_LATE_AT))
        self._add_device(room, spec, after=0)

    async def _out_and_back(self, room: Room, door: RetryingTransport) -> None:
        owner, leaver = self._user(room.workload.owner, door), room.workload.leaver
        device = next(d for d in self.devices if d.room is room and d.screen.spec.user == leaver)
        await asyncio.sleep(self.seconds * _OUT_AT)
        unasked = device.out.is_set()
        await owner.remove_member(room.conversation_id, leaver)
        answered = time.monotonic()  # on a busy machine the answer may take seconds
        if not unasked:
            device.screen.removed_at = answered
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await device.out.wait()
        out_for = max(_OUT_AT_LEAST_S, self.seconds * _OUT_FOR)
        await asyncio.sleep(max(0.0, answered + out_for - time.monotonic()))  # so that something could still reach it
        raise_if_dead(device.clients)
        await device.close()
        self.devices.remove(device)
        device.screen.added_again_at = time.monotonic()
        await owner.add_member(room.conversation_id, leaver)
        self._add_device(room, DeviceSpec(user=leaver, device=_LEAVER, kind=DeviceKind.STEADY), after=None)

    def _set_recoveries(self) -> None:
        seen = self.history
        set_recoveries(seen.faults, measured(seen), seen.observed_until, seen.slowdown)

    # closing

    async def _close(self) -> None:
        for task in self.tasks:
            task.cancel()
        parts: Sequence[Device | Activity] = [*self.devices, *self.activities]
        await asyncio.gather(*(part.close() for part in parts), *self.tasks, return_exceptions=True)


@contextmanager
def _beside(works: Sequence[Coroutine[Any, Any, None]]) -> Iterator[list[asyncio.Task[None]]]:
    """Run these beside the block, and cancel them at its end."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
