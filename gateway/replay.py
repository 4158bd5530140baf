"""Replays: sockets that lack frames get them from the store, page by page, until they are in step with their rooms."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from domain.errors import Unavailable
from domain.history import History
from gateway.framing import encode
from gateway.replay_budget import ReplayBudget
from gateway.room import Room, Socket, Subscription
from runtime.metrics import REPLAYED, REPLAYED_BYTES, RESETS
from runtime.tasks import Tasks
from schemas.frames import Reset, encoded, of_change
from schemas.messages import Change

_log = structlog.get_logger()

PAGE = 200
_SHARED_S = 0.05
"""Time for which the frames of a page are kept: those who join together get theirs at the same time."""
_YIELD_EVERY = 25
"""Frames that are written in one turn of the event loop: live frames of others go in between."""


@dataclass(slots=True)
class Replay:
    """Catches subscriptions up, in fair turns of their users.

    ``bound`` compares a room's buffer with the head of the store, which it returns. ``retry_s``: the pause after an
    outage.
    """

    history: History
    bound: Callable[[Room], Awaitable[int]]
    budget: ReplayBudget = field(default_factory=ReplayBudget)
    retry_s: float = 2.0
    _pages: dict[int, tuple[Sequence[Change], list[bytes]]] = field(default_factory=dict)
    _lagging: dict[Socket, deque[Subscription]] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=Tasks)

    async def catch_up(self, subscription: Subscription) -> None:
        """Send what the subscription lacks, from the store, until it is in step with the buffer. Raises Unavailable."""
        while not await self._step(subscription):
            pass
        subscription.catching_up = False

    def start(self, subscription: Subscription) -> None:
        """Catch it up once the socket can be written to. One task for each socket, however many rooms it lags in."""
        if subscription.catching_up:
            return
        subscription.catching_up = True
        socket = subscription.socket
        _log.debug(
            "subscription_lagging",
            conversation_id=subscription.room.conversation_id,
            connection_id=socket.connection_id,
            cursor=subscription.cursor,
        )
        if socket in self._lagging:
            self._lagging[socket].append(subscription)
        else:
            self._lagging[socket] = deque([subscription])
            self._tasks.spawn(self._catch_up_later(socket), partial(socket.outbound.abort, "task_failed"))

    def send_reset(self, subscription: Subscription) -> bool:
        """Write the ``reset`` that is due, if any, in its place before what follows; return False when the socket is
        full."""
        start = subscription.reset_from
        if start is None or subscription.gone:
            return True
        room = subscription.room
        frame = encoded(Reset(conversation_id=room.conversation_id, epoch=room.epoch, start=start))
        if not subscription.socket.outbound.write(encode(frame)):
            return False
        subscription.reset_from = None
        RESETS.inc()
        return True

    async def _step(self, subscription: Subscription) -> bool:
        """Send a page, as far as the socket takes it; return True once it is in step, or gone. Raises Unavailable.

        Nothing waits for a socket here but itself: the page is dropped, not kept, when the socket is full.
        """
        await subscription.socket.outbound.drained()
        room = subscription.room
        if not self.send_reset(subscription):
            return False
        if room.go_live(subscription):
            return True
        async with self.budget.turn(subscription.socket.user_id) as account:
            target = room.buffer.cursor or 0
            if subscription.gone or target <= subscription.cursor:
                return room.go_live(subscription)
            after = max(subscription.cursor, subscription.hidden_up_to)
            changes = await self.history.changes(room.conversation_id, after, target, PAGE)
            account.spend(await _write(subscription, changes, self._frames_of(changes)))
        if not changes:  # the store lacks what the buffer has released
            await self.bound(room)
            if not room.go_live(subscription):
                await asyncio.sleep(self.retry_s)
        return room.go_live(subscription)

    def _frames_of(self, changes: Sequence[Change]) -> list[bytes]:
        """Return the list of the page's encoded frames, which those fill who write it.

        Concurrent queries for the same page get the same object (runtime.dataloader), and so the same frames. A page
        that was read again has its own, since what the store says of an entry may have changed.
        """
        if not self._pages:
            asyncio.get_running_loop().call_later(_SHARED_S, self._pages.clear)
        return self._pages.setdefault(id(changes), (changes, []))[1]

    async def _catch_up_later(self, socket: Socket) -> None:
        """Page by page in turn, so that no busy room keeps the others waiting."""
        subscriptions = self._lagging[socket]
        try:
            while subscriptions:
                subscription = subscriptions.popleft()
                try:
                    live = await self._step(subscription)
                except Unavailable:
                    live = False
                    await asyncio.sleep(self.retry_s)
                if live:
                    subscription.catching_up = False
                else:
                    subscriptions.append(subscription)
        finally:
            del self._lagging[socket]


async def _write(subscription: Subscription, changes: Sequence[Change], frames: list[bytes]) -> int:
    """Write the frames of a page until the socket is full, or the subscription gone or reset; return their bytes."""
    size = 0
    for number, change in enumerate(changes, 1):
        if number > len(frames):
            frames.append(encode(of_change(change)))
        frame = frames[number - 1]
        if subscription.gone or subscription.reset_from is not None:
            break
        if not subscription.socket.outbound.write(frame):
            break
        subscription.cursor = change.seq
        size += len(frame)
        REPLAYED.inc()
        if number % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
    REPLAYED_BYTES.inc(size)
    return size
