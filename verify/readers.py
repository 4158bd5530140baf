"""Readers: some users read their conversations over HTTP, while others send and faults are injected, and at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from verify.activity import Access, until
from verify.history import History, Room, Sending
from verify.http_answers import Caller
from verify.observations import ShownMessage
from verify.reading import ReadingUser
from verify.workload import DeviceKind

READERS = 6
_PAUSE_S = (0.7, 1.7)
_END_S = 20.0
"""Time at the end in which a read may fail, or show less: nothing is on its way any more."""
_LIMITS = (3, 10, 25, 50)


@dataclass(slots=True)
class Reader:
    """A user who reads without end, in an order of its own. ``sought``: messages that the user has searched for.

    ``away`` are members without a device: they are notified, and read that alone.
    """

    reading: ReadingUser
    chance: random.Random
    run: str
    away: Sequence[ReadingUser] = ()
    sought: list[Sending] = field(default_factory=list)
    missing: Sending | None = None
    """The message that is searched for until it is found."""

    async def go_on(self) -> None:
        """Read something, pause, and so on until cancelled."""
        acts: Sequence[Callable[[], Awaitable[object]]] = (
            self._newest,
            self._search,
            self._older,
            self._list,
            self._search,
            self._newer,
            self._read_up_to,
            self._search,
            self._around_the_head,
            self._notifications,
            self._search,
            self.reading.counts,
            self.reading.intrude,
            self.reading.use_ticket,
        )
        turn = self.chance.randrange(len(acts))
        while True:
            await asyncio.sleep(self.chance.uniform(*_PAUSE_S))
            await acts[turn % len(acts)]()
            turn += 1

    async def _newest(self) -> None:
        await self.reading.page(None, None, self.chance.choice(_LIMITS))

    async def _older(self) -> None:
        """Read a page, and the one before it."""
        limit = self.chance.choice(_LIMITS)
        page = await self.reading.page(None, None, limit)
        if page is not None and page.messages:
            await self.reading.page(None, page.messages[0].seq, limit)

    async def _newer(self) -> None:
        """Read on from somewhere, two pages."""
        after, limit = self.chance.randint(0, self._highest()), self.chance.choice(_LIMITS)
        page = await self.reading.page(after, None, limit)
        if page is not None and page.messages:
            await self.reading.page(page.messages[-1].seq, None, limit)

    async def _around_the_head(self) -> None:
        head = self._highest()
        await self.reading.page(max(0, head - 3), None, 10)
        await self.reading.page(max(0, head - 6), head + 3, 10)

    def _highest(self) -> int:
        return max((s.accepted.seq for s in self.reading.room.sendings if s.accepted), default=0)

    async def _search(self) -> None:
        if self.missing is None:
            fresh = [s for s in self.reading.room.sendings[-5:] if s.accepted and s not in self.sought]
            if not fresh:
                return
            self.missing = self.chance.choice(fresh)
            self.sought.append(self.missing)
        if await self.reading.search(self.missing):
            self.missing = None

    async def _list(self) -> None:
        await self.reading.conversations()

    async def _read_up_to(self) -> None:
        page = await self.reading.page(None, None, 1)
        if page is not None and page.messages:
            await self.reading.post_receipt(page.messages[-1].seq)
            await self.reading.conversations()

    async def _notifications(self) -> None:
        whose = self.chance.choice([self.reading, *self.away])
        await whose.notifications(self.chance.choice(_LIMITS), unseen=self.chance.random() < 0.5)

    # the end

    async def conclude(self) -> None:
        """Read until everything shows what was sent, or the time is up; the last answers are kept as such."""
        reading, deadline = self.reading, time.monotonic() + _END_S
        whole: list[ShownMessage] = []

        async def history_is_read() -> bool:
            found = await reading.whole_history()
            whole.extend(found or ())
            return found is not None

        async def all_are_counted() -> bool:
            counts = await reading.counts()
            return counts is not None and counts.messages == len(whole)

        async def all_are_found() -> bool:
            found = await reading.whole_search(self.run)
            return found is not None and len(found.hits) == len(whole)

        async def receipts_are_shown() -> bool:
            listed = await reading.conversations()
            lines = () if listed is None else listed.lines
            mine = [line.read_seq for line in lines if line.conversation_id == reading.room.conversation_id]
            return bool(mine) and mine[0] >= self._reported()

        await until(history_is_read, deadline)
        await until(all_are_counted, deadline)
        await reading.counts(is_last=True)
        await until(all_are_found, deadline)
        await reading.whole_search(self.run, is_last=True)
        await until(receipts_are_shown, deadline)
        await reading.conversations(is_last=True)
        for sending in self.sought:
            await until(partial(reading.search, sending), deadline)
        for whose in (reading, *self.away):
            await whose.notifications(50, unseen=False)

    def _reported(self) -> int:
        """Return the highest seq of which the user has reported over HTTP that it was read."""
        receipts = self.reading.room.receipts
        return max(
            (r.read_seq for r in receipts if r.call.user == self.reading.user and r.call.status == 204), default=0
        )


@dataclass(slots=True)
class Readers:
    """The readers of a run, an activity. All of them are members with a desk in one conversation each."""

    history: History
    seed: int
    readers: list[Reader] = field(default_factory=list)

    async def prepare(self, access: Access, rooms: Sequence[Room]) -> None:
        """Choose the readers."""
        chance = random.Random(self.seed)
        caller = Caller(access.client, access.http, access.token, self.history.calls)
        for room in chance.sample(list(rooms), min(READERS, len(rooms))):
            workload = room.workload
            desks = [spec.user for spec in workload.devices if spec.kind is DeviceKind.STEADY]
            reading = ReadingUser(chance.choice(desks), room, caller, self.history.reads, access.ws)
            connected = {workload.leaver, *(spec.user for spec in workload.devices)}
            away = [replace(reading, user=user) for user in workload.members if user not in connected]
            self.readers.append(Reader(reading, random.Random(chance.random()), self.history.run, away))

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reader in self.readers:
                group.create_task(reader.go_on())

    async def settle(self) -> None:
        """Do nothing: no read is left when the load has ended."""

    async def conclude(self) -> None:
        """Read once more, when everybody has everything."""
        await asyncio.gather(*(reader.conclude() for reader in self.readers))

    async def close(self) -> None:
        """Do nothing: readers hold no connections of their own."""
