"""Filling of gaps from the store: a gap that has not closed by itself is fetched, once for all sockets of the node.

A timer runs only for a room that has a gap. A node at rest does nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.history import History
from gateway.hub import Hub
from gateway.replay import PAGE
from gateway.room import Room
from runtime.metrics import GAPS
from runtime.tasks import Tasks
from schemas.messages import Change

_log = structlog.get_logger()

_AGAIN_S = 0.05
"""Pause between the end of a fetch and the next one of the same room."""


@dataclass(slots=True)
class GapFiller:
    """Fetches gaps. ``bound`` compares a room with the store and returns the store's head; ``fill`` takes entries of
    that. ``retry_s``: the pause after a fetch that brought nothing."""

    hub: Hub
    history: History
    bound: Callable[[Room], Awaitable[int]]
    fill: Callable[[Room, Sequence[Change]], None]
    retry_s: float
    _tasks: Tasks = field(default_factory=Tasks)

    def watch(self, room: Room) -> None:
        """Look at the room's gap, if it has one, as soon as it counts as lost; to be called whenever one may begin."""
        due = room.buffer.gap_due
        if due is not None and not (room.watched or room.fetching):
            self._look_at(room, due)

    def _look_at(self, room: Room, due: float) -> None:
        room.watched = True
        asyncio.get_running_loop().call_at(due, self._look, room)

    def _look(self, room: Room) -> None:
        room.watched = False
        if room.fetching or self.hub.rooms.get(room.conversation_id) is not room:
            return
        gap = room.buffer.gap(asyncio.get_running_loop().time())
        if gap is None:
            self.watch(room)  # that gap has closed, and another one may have begun
        else:
            room.fetching = True
            self._tasks.spawn(self._fetch(room, *gap))

    async def _fetch(self, room: Room, after: int, up_to: int) -> None:
        """Fill a gap, as far as the store's head: what is claimed beyond it is none."""
        GAPS.inc()
        _log.debug("gap_found", conversation_id=room.conversation_id, after=after, up_to=up_to)
        try:
            up_to = min(up_to, await self.bound(room))
            if up_to <= after:
                return
            changes = await self.history.changes(room.conversation_id, after, up_to, PAGE)
            self.fill(room, changes)
            if not changes:
                await asyncio.sleep(self.retry_s)
        except Unavailable:
            await asyncio.sleep(self.retry_s)
        finally:
            room.fetching = False
            due = room.buffer.gap_due
            if due is not None and not room.watched:
                self._look_at(room, max(due, asyncio.get_running_loop().time() + _AGAIN_S))
