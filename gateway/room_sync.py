"""Keeping rooms whole: subscribing, filling gaps, comparing heads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, NotFound, Unavailable
from domain.history import History
from domain.pubsub import PubSub
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.framing import encode
from gateway.hub import Hub, Room, Subscription
from gateway.publications import room_envelope
from gateway.replay import PAGE, Replay
from gateway.replay_budget import ReplayBudget
from runtime.metrics import CLAIMS_DENIED, DELIVERIES, GAPS
from runtime.tasks import Tasks
from schemas.frames import Left, encoded, history_hidden

_log = structlog.get_logger()

TICK_S = 0.05


@dataclass(slots=True)
class RoomSync:
    """Synchronizes the rooms of a node. PostgreSQL is the truth; Redis only makes it quick."""

    hub: Hub
    history: History
    pubsub: PubSub
    gap_check_interval_s: float = 2.0
    budget: ReplayBudget = field(default_factory=ReplayBudget)
    replay: Replay = field(init=False)
    _tasks: Tasks = field(default_factory=Tasks)
    _compare: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.replay = Replay(self.history, self._bound, self.budget, self.gap_check_interval_s)

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
        if after is not None and after < subscription.hidden_up_to:
            await self._hide(subscription, after)
            after = subscription.hidden_up_to
        if after is None or after > (room.buffer.cursor or 0):  # else the buffer has shown that the head is beyond
            head = (await self.history.heads([room.conversation_id])).get(room.conversation_id, 0)
            if after is not None and after > head:
                raise Invalid(f"after must not exceed the last seq, which is {head}")
            after = head if after is None else after
        subscription.cursor = after
        await self.replay.catch_up(subscription)
        return subscription.has

    async def _check_member(self, subscription: Subscription) -> None:
        found = await self.history.membership(subscription.room.conversation_id, subscription.socket.user_id)
        if found is None:
            raise NotFound(NO_CONVERSATION)
        subscription.confirm(found.since, found.hidden_up_to)

    async def _hide(self, subscription: Subscription, after: int) -> None:
        """Send one frame in place of the entries that are older than the membership and not for this member."""
        hidden = history_hidden(subscription.room.conversation_id, after, subscription.hidden_up_to)
        while not subscription.socket.outbound.write(encode(hidden)):
            await subscription.socket.outbound.drained()

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
        if room is None:
            return
        self._release(room, room.buffer.push(envelope.seq, envelope, _now()))
        if room.buffer.disputed and not room.settling:
            room.settling = True
            self._tasks.spawn(self._settle(room))

    def compare_soon(self) -> None:
        """Compare heads at once: something may have been lost."""
        self._compare.set()

    def _release(self, room: Room, released: Sequence[tuple[int, Envelope]]) -> None:
        for seq, envelope in released:
            DELIVERIES.inc(len(room.live))
            for subscription in room.release(seq, encode(envelope.frame)):
                self.replay.start(subscription)
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

    async def _settle(self, room: Room) -> None:
        """Send the sockets the store's entry of each seq for which a second, different frame came."""
        try:
            while room.buffer.disputed:
                seq = min(room.buffer.disputed)
                for change in await self.history.changes(room.conversation_id, seq - 1, seq, 1):
                    for subscription in room.send_again(seq, encode(room_envelope(change).frame)):
                        self.replay.start(subscription)
                room.buffer.disputed.discard(seq)
        except Unavailable:
            await asyncio.sleep(self.gap_check_interval_s)
        finally:
            room.settling = False

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
        """Fill a gap, as far as the store's head: what is claimed beyond it is none."""
        GAPS.inc()
        _log.debug("gap_found", conversation_id=room.conversation_id, after=after, up_to=up_to)
        try:
            up_to = min(up_to, await self._bound(room))
            if up_to <= after:
                return
            changes = await self.history.changes(room.conversation_id, after, up_to, PAGE)
            for change in changes:
                self._release(room, room.buffer.fill(change.seq, room_envelope(change), _now()))
            if not changes:
                await asyncio.sleep(self.gap_check_interval_s)
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
            try:
                await self._read_heads([room for room in self.hub.rooms.values() if room.buffer.cursor is not None])
            except Unavailable:
                continue

    async def _bound(self, room: Room) -> int:
        """Compare a room with the store; return the store's head. Raises Unavailable."""
        return (await self._read_heads([room]))[room.conversation_id]

    async def _read_heads(self, rooms: Sequence[Room]) -> Mapping[str, int]:
        seen = [room.buffer.head for room in rooms]
        found = await self.history.heads([room.conversation_id for room in rooms]) if rooms else {}
        heads, now = {room.conversation_id: found.get(room.conversation_id, 0) for room in rooms}, _now()
        for room, claimed in zip(rooms, seen, strict=True):
            head = heads[room.conversation_id]
            rewound = room.buffer.observe_head(head, now, claimed)
            if claimed > head:
                CLAIMS_DENIED.inc()
                _log.warning(
                    "claims_denied",
                    conversation_id=room.conversation_id,
                    head=head,
                    claimed=claimed,
                    rewound=rewound,
                    reason="a publication in Redis names a seq that the store does not have",
                )
        return heads


def _now() -> float:
    return asyncio.get_running_loop().time()
