"""Keeping rooms whole: subscribing, catching up from the store, filling gaps, comparing heads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from domain.errors import Invalid, NotFound, Unavailable
from domain.history import History
from domain.pubsub import PubSub
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.framing import encode
from gateway.hub import Hub, Room, Socket, Subscription
from gateway.publications import room_envelope
from runtime.metrics import DELIVERIES, GAPS, LAGGING, REPLAYED
from runtime.tasks import Tasks
from schemas.frames import Left, encoded, of_change

_log = structlog.get_logger()

PAGE = 200
REPLAYS = 32
TICK_S = 0.05


@dataclass(slots=True)
class RoomSync:
    """Synchronizes the rooms of a node. PostgreSQL is the truth; Redis only makes it quick."""

    hub: Hub
    history: History
    pubsub: PubSub
    gap_check_interval_s: float = 2.0
    _replays: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REPLAYS))
    _lagging: dict[Socket, deque[Subscription]] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=Tasks)
    _compare: asyncio.Event = field(default_factory=asyncio.Event)

    # joining and leaving

    async def join(self, subscription: Subscription, after: int | None) -> int:
        """Make the subscription live after replaying what follows ``after``; return the seq up to which it is complete.

        Raises NotFound for a non-member, Invalid for an ``after`` beyond the head, Unavailable.
        """
        room = subscription.room
        opens = room.buffer.cursor is None
        await self._check_member(subscription)
        if subscription.gone:
            return 0
        await self._open(room)
        if opens:  # a removal since then may lie before the head, which is not released
            await self._check_member(subscription)
        if after is None or after > (room.buffer.cursor or 0):  # else the buffer has shown that the head is beyond
            head = (await self.history.heads([room.conversation_id])).get(room.conversation_id, 0)
            if after is not None and after > head:
                raise Invalid(f"after must not exceed the last seq, which is {head}")
            after = head if after is None else after
        subscription.cursor = after
        await self.catch_up(subscription)
        return subscription.has

    async def _check_member(self, subscription: Subscription) -> None:
        since = await self.history.member_since(subscription.room.conversation_id, subscription.socket.user_id)
        if since is None:
            raise NotFound("no such conversation, or you are not a member of it")
        subscription.since = since

    async def _open(self, room: Room) -> None:
        """Subscribe, wait for the confirmation, and only then read the head: what comes after it is live."""
        if room.buffer.cursor is not None:
            return
        try:
            await asyncio.gather(
                self.pubsub.subscribe(channels.messages(room.conversation_id)),
                self.pubsub.subscribe(channels.events(room.conversation_id)),
            )
        except Unavailable:
            _log.warning(
                "room_opened_without_redis",
                conversation_id=room.conversation_id,
                reason="redis does not answer; heads are compared with the store",
            )
        head = (await self.history.heads([room.conversation_id])).get(room.conversation_id, 0)
        if room.buffer.cursor is None:
            self._release(room, room.buffer.start(head, _now()))
        _log.debug("room_opened", conversation_id=room.conversation_id, head=head)

    async def catch_up(self, subscription: Subscription) -> None:
        """Send what the subscription lacks, from the store, until it is in step with the buffer. Raises Unavailable."""
        while not await self._step(subscription):
            pass

    async def _step(self, subscription: Subscription) -> bool:
        """Send a page, as far as the socket takes it; return True once it is in step, or gone. Raises Unavailable.

        Nothing waits for a socket here but itself: the page is dropped, not kept, when the socket is full.
        """
        await subscription.socket.outbound.drained()
        room = subscription.room
        if room.go_live(subscription):
            return True
        async with self._replays:
            target = room.buffer.cursor or 0
            changes = await self.history.changes(room.conversation_id, subscription.cursor, target, PAGE)
        for change in changes:
            if subscription.gone or not subscription.socket.outbound.write(encode(of_change(change))):
                break
            subscription.cursor = change.seq
            REPLAYED.inc()
        return room.go_live(subscription)

    async def close(self, room: Room) -> None:
        """Unsubscribe from the channels of a room that no socket is in."""
        _log.debug("room_closed", conversation_id=room.conversation_id)
        for channel in (channels.messages(room.conversation_id), channels.events(room.conversation_id)):
            if room.conversation_id not in self.hub.rooms:  # somebody may have come meanwhile
                await self.pubsub.unsubscribe(channel)

    # arrivals

    def on_message(self, conversation_id: str, envelope: Envelope) -> None:
        """Take an entry of the conversation's change log, if a socket has joined it."""
        room = self.hub.rooms.get(conversation_id)
        if room is not None:
            self._release(room, room.buffer.push(envelope.seq, envelope, _now()))

    def compare_soon(self) -> None:
        """Compare heads at once: something may have been lost."""
        self._compare.set()

    def _release(self, room: Room, released: Sequence[tuple[int, Envelope]]) -> None:
        for seq, envelope in released:
            DELIVERIES.inc(len(room.live))
            for subscription in room.release(seq, encode(envelope.frame)):
                self._start_catch_up(subscription)
            if envelope.kind == Kind.MEMBER_REMOVED:
                self._remove(room, seq, envelope.about)

    def _remove(self, room: Room, seq: int, user_id: str) -> None:
        """Evict a member who was removed; ignore a stale removal of one who has rejoined since."""
        for subscription in room.subscriptions():
            if subscription.socket.user_id == user_id and subscription.since < seq:
                self._evict(subscription)

    def _evict(self, subscription: Subscription) -> None:
        """End the subscription; the connection goes on for its other conversations."""
        _log.debug(
            "subscription_evicted",
            conversation_id=subscription.room.conversation_id,
            connection_id=subscription.socket.connection_id,
            user_id=subscription.socket.user_id,
            reason="the user was removed",
        )
        emptied = self.hub.unsubscribe(subscription)
        self._tasks.spawn(self._say_left(subscription))
        if emptied is not None:
            self._tasks.spawn(self.close(emptied))

    async def _say_left(self, subscription: Subscription) -> None:
        left = encode(encoded(Left(id=subscription.room.conversation_id, reason="removed")))
        while not subscription.socket.outbound.write(left):
            await subscription.socket.outbound.drained()

    def _start_catch_up(self, subscription: Subscription) -> None:
        """Catch it up once the socket can be written to. One task for each socket, however many rooms it lags in."""
        LAGGING.inc()
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
                    await asyncio.sleep(self.gap_check_interval_s)
                if not live:
                    subscriptions.append(subscription)
        finally:
            del self._lagging[socket]

    # gaps and heads

    async def run(self) -> None:
        """Fill gaps as they are found, and compare heads every few seconds, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill_gaps())
            group.create_task(self._compare_heads())

    async def _fill_gaps(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = _now()
            for room in list(self.hub.rooms.values()):
                if not room.fetching and (gap := room.buffer.gap(now)) is not None:
                    room.fetching = True
                    self._tasks.spawn(self._fetch(room, *gap))

    async def _fetch(self, room: Room, after: int, up_to: int) -> None:
        GAPS.inc()
        _log.debug("gap_found", conversation_id=room.conversation_id, after=after, up_to=up_to)
        try:
            for change in await self.history.changes(room.conversation_id, after, up_to, PAGE):
                self._release(room, room.buffer.push(change.seq, room_envelope(change), _now()))
        except Unavailable:
            await asyncio.sleep(self.gap_check_interval_s)
        finally:
            room.fetching = False

    async def _compare_heads(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.gap_check_interval_s):
                    await self._compare.wait()
            except TimeoutError:
                pass
            self._compare.clear()
            rooms = [room for room in self.hub.rooms.values() if room.buffer.cursor is not None]
            if not rooms:
                continue
            try:
                heads = await self.history.heads([room.conversation_id for room in rooms])
            except Unavailable:
                continue
            now = _now()
            for room in rooms:
                room.buffer.observe_head(heads.get(room.conversation_id, 0), now)


def _now() -> float:
    return asyncio.get_running_loop().time()
