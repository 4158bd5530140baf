"""Readers: they look over HTTP for messages of the rooms until these are there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from millrace_client import HttpClient
from millrace_client.types import Message

from verify.edges import Edge, Measurement
from verify.probe.doors import FAILED, TRY_S, Doors
from verify.probe.texts import TextRoom, word_of
from verify.probe.track import Watermark

EVERY_S = 0.8
"""Interval of each look, and so the precision of what is read over HTTP."""
_PAGE = 100
_SPARE = 10
_LONG_S = 20.0

_Page: TypeAlias = tuple[Sequence[Message], str | None]
"""Messages, newest first, and the cursor of the next page."""
_Read: TypeAlias = Callable[[HttpClient, int, str | None], Awaitable[_Page]]


def depth(measurements: Sequence[Measurement], now: float) -> int:
    """Return how many messages to look through: those sent since the oldest one that is still under way; 0 when none
    is, and all when one is under way for long, since a clock that was stepped may have put it far back. Pure."""
    first = next((number for number, each in enumerate(measurements) if each.ended is None), len(measurements))
    is_long = first < len(measurements) and measurements[first].seconds(now) > _LONG_S
    return len(measurements) if is_long else len(measurements) - first


@dataclass(frozen=True, slots=True)
class Reader:
    """A user who is a member of all rooms and never connected."""

    user: str
    run: str
    rooms: Mapping[str, TextRoom]
    """By conversation."""
    measurements: Mapping[Edge, Sequence[Measurement]]

    async def search(self, doors: Doors) -> None:
        """Search for sampled messages, for ever."""
        await self._look(doors, Edge.SEARCHED, self._hits)

    async def notice(self, doors: Doors) -> None:
        """Look for notifications, for ever."""
        await self._look(doors, Edge.NOTIFIED, _notices)

    async def count(self, doors: Doors, room: TextRoom) -> None:
        """Look at the count of a room, for ever."""
        counted = room.tracks[Edge.COUNTED]
        assert isinstance(counted, Watermark)
        while True:
            await asyncio.sleep(2 * EVERY_S)
            if not counted.waiting:
                continue
            with suppress(*FAILED):
                async with asyncio.timeout(TRY_S):
                    analytics = await doors.user(self.user).analytics(room.conversation_id)
                counted.reach_all(sum(minute.messages for minute in analytics.minutes), time.monotonic())

    async def _look(self, doors: Doors, edge: Edge, read: _Read) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            left, cursor = depth(self.measurements[edge], time.monotonic()), None
            with suppress(*FAILED):
                async with asyncio.timeout(2 * TRY_S):
                    while left > 0:
                        messages, cursor = await read(doors.user(self.user), min(left + _SPARE, _PAGE), cursor)
                        self._reach(edge, messages)
                        left = left - len(messages) if cursor is not None else 0

    def _reach(self, edge: Edge, messages: Sequence[Message]) -> None:
        for message in messages:
            if (room := self.rooms.get(message.conversation_id)) is not None:
                room.tracks[edge].reach(message.seq, time.monotonic())

    async def _hits(self, client: HttpClient, limit: int, cursor: str | None) -> _Page:
        page = await client.search(word_of(self.run), limit=limit, cursor=cursor)
        return [hit.message for hit in page.hits], page.next


async def _notices(client: HttpClient, limit: int, cursor: str | None) -> _Page:
    page = await client.notifications(limit=limit, cursor=cursor)
    return [entry.message for entry in page.notifications], page.next
