"""Keeping rooms whole: subscribing, catching up from the store, filling holes, comparing heads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog

from domain.errors import Invalid, NotFound, Unavailable
from domain.history import History
from domain.pubsub import Hint, Subscriptions
from gateway import channels
from gateway.hub import Hub, Place, Room, Socket
from gateway.reorder_buffer import Numbered
from gateway.send_queue import encode
from runtime.metrics import DELIVERIES, HOLES, LAGGING, REPLAYED
from runtime.tasks import Tasks
from schemas import frames
from schemas.messages import ChangeKind

_log = structlog.get_logger()

PAGE = 200
REPLAYS = 32
TICK_S = 0.05
_REMOVED = f'"change":"{ChangeKind.MEMBER_REMOVED}"'.encode()


@dataclass(slots=True)
class Rooms:
    """The rooms of a node. PostgreSQL is the truth; Redis only makes it quick."""

    hub: Hub
    history: History
    subscriptions: Subscriptions
    heads_every_s: float = 2.0
    _replays: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REPLAYS))
    _lagging: dict[Socket, deque[Place]] = field(default_factory=dict)
    _tasks: Tasks = field(default_factory=Tasks)
    _compare: asyncio.Event = field(default_factory=asyncio.Event)

    # joining and leaving

    async def join(self, place: Place, after: int | None) -> int:
        """Make the place live after replaying what follows ``after``; returns the seq up to which it is complete.

        Raises NotFound for a non-member, Invalid for an ``after`` beyond the head, Unavailable.
        """
        room = place.room
        opens = room.feed.cursor is None
        await self._check_member(place)
        if place.gone:
            return 0
        await self._open(room)
        if opens:  # a removal since then may lie before the head, where the feed does not give it out
            await self._check_member(place)
        if after is None or after > (room.feed.cursor or 0):  # else the feed has shown that the head is beyond
            head = (await self.history.heads([room.conversation_id])).get(room.conversation_id, 0)
            if after is not None and after > head:
                raise Invalid(f"after is beyond the last seq, which is {head}")
            after = head if after is None else after
        place.cursor = after
        await self.catch_up(place)
        return place.has

    async def _check_member(self, place: Place) -> None:
        since = await self.history.member_since(place.room.conversation_id, place.socket.user_id)
        if since is None:
            raise NotFound("no such conversation, or you are not a member of it")
        place.since = since

    async def _open(self, room: Room) -> None:
        """Subscribe, wait for the confirmation, and only then read the head: what comes after it is live."""
        if room.feed.cursor is not None:
            return
        try:
            await asyncio.gather(
                self.subscriptions.subscribe(channels.messages(room.conversation_id)),
                self.subscriptions.subscribe(channels.events(room.conversation_id)),
            )
        except Unavailable:
            _log.warning("room without redis: it follows the store")
        head = (await self.history.heads([room.conversation_id])).get(room.conversation_id, 0)
        if room.feed.cursor is None:
            self._give(room, room.feed.start(head, _now()))

    async def catch_up(self, place: Place) -> None:
        """Send what the place lacks, from the store, until it is in step with the feed. Raises Unavailable."""
        while not await self._step(place):
            pass

    async def _step(self, place: Place) -> bool:
        """Send a page of it, as far as the socket takes it; True once it is in step, or gone. Raises Unavailable.

        Nothing waits for a socket here but itself: the page is dropped, not kept, when the socket is full.
        """
        await place.socket.wire.room()
        room = place.room
        if room.settle(place):
            return True
        async with self._replays:
            target = room.feed.cursor or 0
            changes = await self.history.changes(room.conversation_id, place.cursor, target, PAGE)
        for change in changes:
            if place.gone or not place.socket.wire.write(encode(frames.of_change(change))):
                break
            place.cursor = change.seq
            REPLAYED.inc()
        return room.settle(place)

    async def close(self, room: Room) -> None:
        """Nobody is here any more."""
        for channel in (channels.messages(room.conversation_id), channels.events(room.conversation_id)):
            if room.conversation_id not in self.hub.rooms:  # somebody may have come meanwhile
                await self.subscriptions.unsubscribe(channel)

    # what arrives

    def arrived(self, hint: Hint) -> None:
        """A message of one of the rooms, or word of a gap."""
        if hint.gap:
            self._compare.set()
            return
        _, conversation_id, _ = channels.parsed(hint.channel)
        room = self.hub.rooms.get(conversation_id)
        if room is not None:
            seq, frame = channels.opened(hint.data)
            self._give(room, room.feed.offer(int(seq), frame, _now()))

    def _give(self, room: Room, numbered: Sequence[Numbered]) -> None:
        for seq, frame in numbered:
            DELIVERIES.inc(len(room.live))
            for place in room.give(seq, encode(frame)):
                self._lag(place)
            if _REMOVED in frame:
                self._remove(room, seq, frame)

    def _remove(self, room: Room, seq: int, frame: bytes) -> None:
        """Put out who was removed, unless he has come back since: the feed may be late."""
        said = orjson.loads(frame)
        if said.get("type") == "conversation_changed" and said.get("change") == ChangeKind.MEMBER_REMOVED:
            for place in room.everybody():
                if place.socket.user_id == said["userId"] and place.since < seq:
                    self._put_out(place)

    def _put_out(self, place: Place) -> None:
        """The connection goes on for its other conversations."""
        emptied = self.hub.part(place)
        self._tasks.spawn(self._say_left(place))
        if emptied is not None:
            self._tasks.spawn(self.close(emptied))

    async def _say_left(self, place: Place) -> None:
        left = encode(frames.frame("left", id=place.room.conversation_id, reason="removed"))
        while not place.socket.wire.write(left):
            await place.socket.wire.room()

    def _lag(self, place: Place) -> None:
        """Catch it up once the socket can be written to. One task for each socket, however many rooms it lags in."""
        LAGGING.inc()
        socket = place.socket
        if socket in self._lagging:
            self._lagging[socket].append(place)
        else:
            self._lagging[socket] = deque([place])
            self._tasks.spawn(self._catch_up_later(socket), socket.wire.cut)

    async def _catch_up_later(self, socket: Socket) -> None:
        """Page by page in turn, so that no busy room keeps the others waiting."""
        places = self._lagging[socket]
        try:
            while places:
                place = places.popleft()
                try:
                    settled = await self._step(place)
                except Unavailable:
                    settled = False
                    await asyncio.sleep(self.heads_every_s)
                if not settled:
                    places.append(place)
        finally:
            del self._lagging[socket]

    # holes and heads

    async def run(self) -> None:
        """Fill holes as they are found, and compare heads every few seconds, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill_holes())
            group.create_task(self._compare_heads())

    async def _fill_holes(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = _now()
            for room in list(self.hub.rooms.values()):
                if not room.fetching and (hole := room.feed.missing(now)) is not None:
                    room.fetching = True
                    self._tasks.spawn(self._fetch(room, *hole))

    async def _fetch(self, room: Room, after: int, up_to: int) -> None:
        HOLES.inc()
        try:
            for change in await self.history.changes(room.conversation_id, after, up_to, PAGE):
                self._give(room, room.feed.offer(change.seq, frames.of_change(change), _now()))
        except Unavailable:
            await asyncio.sleep(self.heads_every_s)
        finally:
            room.fetching = False

    async def _compare_heads(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.heads_every_s):
                    await self._compare.wait()
            except TimeoutError:
                pass
            self._compare.clear()
            rooms = [room for room in self.hub.rooms.values() if room.feed.cursor is not None]
            if not rooms:
                continue
            try:
                heads = await self.history.heads([room.conversation_id for room in rooms])
            except Unavailable:
                continue
            now = _now()
            for room in rooms:
                room.feed.saw_head(heads.get(room.conversation_id, 0), now)


def _now() -> float:
    return asyncio.get_running_loop().time()
