"""Keeping rooms whole: subscribing, filling gaps, comparing heads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from domain.errors import NotFound, Unavailable
from domain.history import Heads, History
from domain.pubsub import PubSub
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.cursors import Cursors
from gateway.framing import encode
from gateway.gap_filler import GapFiller
from gateway.hub import Hub
from gateway.publications import room_envelope
from gateway.reorder_buffer import ReorderBuffer
from gateway.replay import Replay
from gateway.replay_budget import ReplayBudget
from gateway.room import Room, Subscription
from runtime.metrics import CLAIMS_DENIED, DELIVERIES, LAGGING
from runtime.tasks import Tasks
from schemas.frames import Left, encoded
from schemas.messages import Change

_log = structlog.get_logger()


@dataclass(slots=True)
class RoomSync:
    """Synchronizes the rooms of a node. PostgreSQL is the truth; Redis only makes it quick."""

    hub: Hub
    history: History
    pubsub: PubSub
    gap_check_interval_s: float = 2.0
    budget: ReplayBudget = field(default_factory=ReplayBudget)
    replay: Replay = field(init=False)
    cursors: Cursors = field(init=False)
    gaps: GapFiller = field(init=False)
    epoch: str | None = None
    """The epoch of the store, as far as this node knows it."""
    _readings: int = 0
    _epoch_at: int = 0
    """Number of readings when the epoch was noted: those up to there may be of an earlier one."""
    _tasks: Tasks = field(default_factory=Tasks)
    _compare: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hub.on_lagging = self._catch_up
        self.replay = Replay(self.history, self._bound, self.budget, self.gap_check_interval_s)
        self.gaps = GapFiller(self.hub, self.history, self._bound, self._fill, self.gap_check_interval_s)
        self.cursors = Cursors(self.history, self.replay, self._compare_room)

    # joining and leaving

    async def join(self, subscription: Subscription) -> None:
        """Make the subscription live after replaying what follows its cursor.

        A cursor that does not hold any more begins anew, behind what it shares with the store. Raises NotFound for a
        non-member, Unavailable.
        """
        room = subscription.room
        opens = room.buffer.cursor is None
        await self.cursors.check_member(subscription)
        if subscription.gone:
            return
        await self._open(room)
        if opens:  # a removal since then may lie before the head, which is not released
            await self.cursors.check_member(subscription)
        await self.cursors.place(subscription)
        await self.cursors.announce(subscription)
        await self.replay.catch_up(subscription)

    async def _open(self, room: Room) -> None:
        """Subscribe, wait for the confirmation, and only then read the head: what comes after it is live."""
        if room.buffer.cursor is not None:
            return
        try:
            id_ = room.conversation_id
            await self.pubsub.subscribe(channels.messages(id_), channels.events(id_))
        except Unavailable:
            _log.warning(
                "room_opened_without_redis",
                conversation_id=room.conversation_id,
                reason="redis does not answer; heads are compared with the store",
            )
        heads = await self.history.heads([room.conversation_id])
        if room.buffer.cursor is None:
            room.epoch = heads.epoch
            self._release(room, room.buffer.start(heads.of(room.conversation_id), _now()))
        _log.debug("room_opened", conversation_id=room.conversation_id, head=heads.of(room.conversation_id))

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
            room.release(seq, encode(envelope.frame))
            if envelope.kind == Kind.MEMBER_REMOVED:
                self._remove(room, seq, envelope.about)
        self.gaps.watch(room)

    def _catch_up(self, lagging: Sequence[Subscription]) -> None:
        for subscription in lagging:
            LAGGING.inc()
            self.replay.start(subscription)

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
                    room.send_again(seq, encode(room_envelope(change).frame))
                room.buffer.disputed.discard(seq)
        except Unavailable:
            await asyncio.sleep(self.gap_check_interval_s)
        finally:
            room.settling = False

    # gaps and heads

    async def run(self) -> None:
        """Compare heads every few seconds, for ever; gaps are filled as they are found."""
        self.compare_soon()  # so that `connected` names the epoch
        await self._compare_heads()

    def _fill(self, room: Room, changes: Sequence[Change]) -> None:
        for change in changes:
            self._release(room, room.buffer.fill(change.seq, room_envelope(change), _now()))

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
        return (await self._read_heads([room])).of(room.conversation_id)

    async def _compare_room(self, room: Room) -> Heads:
        return await self._read_heads([room])

    async def _read_heads(self, rooms: Sequence[Room]) -> Heads:
        self._readings += 1
        reading, seen = self._readings, [room.buffer.head for room in rooms]
        heads, now = await self.history.heads([room.conversation_id for room in rooms]), _now()
        if heads.epoch != self.epoch and reading <= self._epoch_at:
            return heads
        self._note_epoch(heads.epoch)
        stale = [room for room in rooms if room.epoch != heads.epoch]
        for room, claimed in zip(rooms, seen, strict=True):
            if room not in stale:
                self._compare_head(room, heads.of(room.conversation_id), claimed, now)
        shared = await asyncio.gather(*(self.history.shared(room.conversation_id, room.epoch) for room in stale))
        for room, seq in zip(stale, shared, strict=True):
            if heads.epoch == self.epoch:
                self._begin_epoch(room, heads, seq)
        return heads

    def _compare_head(self, room: Room, head: int, claimed: int, now: float) -> None:
        ahead = [each for each in room.subscriptions() if each.has > head] if claimed > head else []
        rewound = room.buffer.observe_head(head, now, claimed)
        self.gaps.watch(room)
        if claimed <= head:
            return
        CLAIMS_DENIED.inc()
        _log.warning(
            "claims_denied",
            conversation_id=room.conversation_id,
            head=head,
            claimed=claimed,
            rewound=rewound,
            reason="the store does not have a seq that was published: it went back, or somebody forged it",
        )
        for subscription in ahead if rewound else ():
            room.reset(subscription, head)
            self.replay.start(subscription)

    # epochs

    def _note_epoch(self, epoch: str) -> None:
        if self.epoch == epoch:
            return
        if self.epoch is not None:
            _log.warning("store_epoch_changed", before=self.epoch, epoch=epoch, reason="PostgreSQL is another server")
        self.epoch, self._epoch_at = epoch, self._readings

    def _begin_epoch(self, room: Room, heads: Heads, shared: int) -> None:
        """Begin a room anew in the epoch of the heads: each socket keeps what it has up to ``shared``."""
        if room.epoch == heads.epoch or room.buffer.cursor is None:
            return
        held = [(subscription, subscription.has) for subscription in room.subscriptions() if subscription.placed]
        room.epoch = heads.epoch
        room.buffer = ReorderBuffer()
        self._release(room, room.buffer.start(heads.of(room.conversation_id), _now()))
        for subscription, has in held:
            room.reset(subscription, min(has, shared))
            self._tasks.spawn(self._continue(subscription))

    async def _continue(self, subscription: Subscription) -> None:
        """Catch up a socket in a new epoch, if its user is a member in that, too."""
        while not subscription.gone:
            try:
                await self.cursors.check_member(subscription)
            except NotFound:
                self._evict(subscription)
            except Unavailable:
                await asyncio.sleep(self.gap_check_interval_s)
            else:
                if not subscription.catching_up:
                    await self.cursors.announce(subscription)
                    self.replay.start(subscription)
                return


def _now() -> float:
    return asyncio.get_running_loop().time()
