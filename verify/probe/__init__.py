"""The probe: messages that are always on their way, in a few conversations of its own, and the time of each to each
edge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from millrace_client import HttpClient

from adapters.kafka.partitions import partition_of
from schemas.ids import new_id
from schemas.topics import partition_count
from stack.errors import OperatorError
from verify.activity import Access
from verify.edges import Edge
from verify.errors import raise_if_dead
from verify.history import History, Room
from verify.probe.doors import Doors, open_doors
from verify.probe.pictures import PictureRoom
from verify.probe.readers import Reader
from verify.probe.room import ProbeRoom
from verify.probe.texts import EDGES, TextRoom
from verify.probe.track import Track, Watermark
from verify.slowdown import Slowdown, SlowdownSampler

SETTLE_S = 30.0
_JOIN_S = 60.0
_REMIND_S = 5.0
_TEXTS = (0, 4, 7, 11)
_PICTURES = (4, 7)
"""Partitions of the rooms. Whichever way two or three consumers share twelve, each of them has one."""
_SENDERS = 4


@dataclass(slots=True)
class Probe:
    """The activity that measures. What the stack answers, also an outage, is a time; so nothing of it is raised."""

    history: History
    rooms: list[ProbeRoom] = field(default_factory=list)
    _reader: Reader | None = None
    _doors: Doors | None = None
    _reading: list[asyncio.Task[None]] = field(default_factory=list)
    _machine: SlowdownSampler = field(default_factory=SlowdownSampler)
    _opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def prepare(self, access: Access, rooms: Sequence[Room]) -> None:
        """Make the conversations of the rooms and connect their users. Raises OperatorError."""
        self._doors = await self._opened.enter_async_context(open_doors(access.http, access.token))
        reader = self._name("reader")
        texts = [await self._text_room(access, reader, *each) for each in enumerate(_TEXTS)]
        pictures = [await self._picture_room(access, *each) for each in enumerate(_PICTURES, len(_TEXTS))]
        self.rooms = [*texts, *pictures]
        self.history.probed = [room.conversation_id for room in self.rooms]
        self._reader = Reader(
            reader, self.history.run, {room.conversation_id: room for room in texts}, self.history.measurements
        )
        try:
            async with asyncio.timeout(_JOIN_S):
                await asyncio.gather(*(room.open(access) for room in self.rooms))
        except TimeoutError as exc:
            raise OperatorError(f"the probe could not join its conversations in {_JOIN_S:.0f} s") from exc
        self._reading = [
            asyncio.create_task(reading)
            for reading in (
                self._reader.search(self._doors),
                self._reader.notice(self._doors),
                *(self._reader.count(self._doors, room) for room in texts),
            )
        ]

    async def run(self) -> None:
        """Send, until cancelled."""
        assert self._doors is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._machine.run())
            for room in self.rooms:
                group.create_task(room.talk(self._doors))

    async def settle(self) -> None:
        """Return when every message has reached every edge, or ``SETTLE_S`` have passed. Raises OperatorError."""
        assert self._doors is not None
        remind_at = time.monotonic() + _REMIND_S
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while self._under_way():
                    raise_if_dead([*self._reading, *(task for room in self.rooms for task in room.tasks)])
                    await asyncio.sleep(0.1)
                    if time.monotonic() > remind_at:
                        remind_at += _REMIND_S
                        await asyncio.gather(*(room.remind(self._doors) for room in self.rooms))
        self.history.observed_until = time.monotonic()
        self.history.slowdown = Slowdown.of(self._machine.samples)

    def _under_way(self) -> bool:
        return any(each.ended is None for taken in self.history.measurements.values() for each in taken)

    async def close(self) -> None:
        """End connections and tasks."""
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*(room.close() for room in self.rooms), *self._reading, return_exceptions=True)
        await self._opened.aclose()

    def _name(self, part: str) -> str:
        return f"{self.history.run}.probe.{part}"

    async def _text_room(self, access: Access, reader: str, number: int, partition: int) -> TextRoom:
        taken = self.history.measurements
        sender, receiver = self._name(f"sender{number}"), self._name(f"receiver{number}")
        told = Watermark(taken[Edge.STATUS])
        tracks: dict[Edge, Track[int]] = {edge: Track(taken[edge]) for edge in EDGES}
        tracks |= {Edge.STATUS: told, Edge.COUNTED: Watermark(taken[Edge.COUNTED])}
        return TextRoom(
            run=self.history.run,
            number=number,
            conversation_id=await _create(access.user(sender), [receiver, reader], partition),
            receiver=receiver,
            sender=sender,
            tracks=tracks,
            told=told,
        )

    async def _picture_room(self, access: Access, number: int, partition: int) -> PictureRoom:
        senders = [self._name(f"painter{number}-{n}") for n in range(_SENDERS)]
        receiver = self._name(f"receiver{number}")
        return PictureRoom(
            run=self.history.run,
            number=number,
            conversation_id=await _create(access.user(senders[0]), [*senders[1:], receiver], partition),
            receiver=receiver,
            senders=senders,
            track=Track(self.history.measurements[Edge.MEDIA]),
        )


async def _create(owner: HttpClient, members: Sequence[str], partition: int) -> str:
    """Create a conversation whose records lie in this partition; return its id."""
    count = partition_count()
    while partition_of((conversation_id := new_id()).encode(), count) != partition % count:
        pass
    return await owner.create_conversation(members, "probe", conversation_id=conversation_id)
