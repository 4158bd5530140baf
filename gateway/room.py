"""Room of this node with its reorder buffer, and the subscriptions of sockets to it.

A subscription is *live* while its socket has exactly what the buffer has released. Every other one (a join, a slow
reader) is *behind*: it is caught up from the store, which has had everything before any buffer releases it, and becomes
live in the same turn of the loop in which it reaches the buffer's cursor. So nothing falls in between, and nothing has
to be kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.channels import Envelope
from gateway.reorder_buffer import ReorderBuffer
from gateway.send_queue import ITEMS, RESUME_BELOW, FlatList, WriteBatcher
from schemas.commands import Ref


class Outbound(Protocol):
    """The sending side of a socket, as the hub needs it."""

    def write(self, frame: bytes) -> bool:
        """Take an encoded frame; return False when too much waits already."""

    def send_ephemeral(self, frame: bytes) -> None:
        """Take an encoded frame that the client can do without, if little waits."""

    def send_latest(self, envelope: Envelope, encoded: bytes) -> None:
        """Take a frame, or hold it in place of the one before it on the same subject until there is room."""

    async def drained(self) -> None:
        """Return once little waits; of a connection that is closing, once it has ended."""

    def abort(self, reason: str) -> None:
        """End the connection without a close frame, and log why."""


@dataclass(slots=True, eq=False)
class Socket:
    """A connection of a user, with its subscriptions by conversation id.

    ``joined``: the conversations of those whose membership is confirmed.
    """

    connection_id: str
    user_id: str
    outbound: Outbound
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Subscription:
    """A socket's subscription to a room.

    ``cursor``: the seq up to which the socket was sent everything, while the subscription is not live. ``start``: the
    cursor that it was given; None for the head. ``since``: the seq at which its user became a member, and
    ``hidden_up_to`` the seq up to which entries are not for this member.
    ``unanswered``: the refs of joins that wait until the subscription is live. ``epoch``: that of ``start``, if it was
    given. ``reset_from``: the cursor begins anew here, and the socket was not told yet; until then it is sent nothing.
    ``placed``: it has a cursor. ``catching_up``: a task catches it up.
    """

    socket: Socket
    room: Room
    cursor: int = 0
    start: int | None = None
    epoch: str | None = None
    reset_from: int | None = None
    placed: bool = False
    catching_up: bool = False
    since: int = 0
    hidden_up_to: int = 0
    gone: bool = False
    unanswered: list[Ref] = field(default_factory=list)

    def confirm(self, since: int, hidden_up_to: int = 0) -> None:
        """Note that the user is a member, since that seq: the socket has joined the conversation now."""
        if self.socket in self.room.live:
            self.room.change_live()  # other frames may be for this member now
        self.since, self.hidden_up_to = since, hidden_up_to
        if not self.gone:
            self.socket.joined.add(self.room.conversation_id)

    def place(self, cursor: int) -> None:
        """Begin to catch the subscription up from this cursor."""
        self.cursor, self.placed, self.catching_up = cursor, True, True

    def covers(self, after: int | None, epoch: str | None = None) -> bool:
        """Return whether the replay under way sends, or has sent, everything that a join with this cursor asks for."""
        if not self.unanswered or epoch != self.epoch:
            return False
        between = self.start is not None and after is not None and self.start <= after <= self.cursor
        return between or after == self.start

    @property
    def has(self) -> int:
        """The seq up to which the socket was sent everything."""
        live = self.socket in self.room.live
        return self.room.buffer.cursor or 0 if live else self.cursor


@dataclass(slots=True, eq=False)
class Room:
    """A conversation that sockets of this node have joined. ``epoch``: that of the seqs in its buffer.

    Within a turn of the loop the first frame is sent at once; the others are owed to the live sockets, and sent joined.
    So whatever changes ``live`` calls ``change_live`` before. ``on_lagging`` gets the subscriptions that could not take
    a frame; they are behind then.
    """

    conversation_id: str
    batcher: WriteBatcher = field(default_factory=WriteBatcher)
    on_lagging: Callable[[Sequence[Subscription]], None] = lambda _: None
    epoch: str = ""
    buffer: ReorderBuffer[Envelope] = field(default_factory=ReorderBuffer)
    live: dict[Socket, Subscription] = field(default_factory=dict)
    ahead: dict[Socket, Subscription] = field(default_factory=dict)
    behind: dict[Socket, Subscription] = field(default_factory=dict)
    fetching: bool = False
    watched: bool = False
    settling: bool = False
    _owed: list[tuple[int, bytes]] = field(default_factory=list)
    _owed_size: int = 0
    _turn: object | None = None
    _flat: FlatList | None = None
    _hidden_up_to: int = 0

    @property
    def empty(self) -> bool:
        """True while no socket is subscribed."""
        return not (self.live or self.ahead or self.behind)

    def release(self, seq: int, frame: bytes) -> None:
        """Send an encoded frame that was released to the live sockets."""
        self._send(seq, frame)
        reached = [each for each in self.ahead.values() if each.cursor <= seq] if self.ahead else ()
        if reached:
            self.change_live()
        for subscription in reached:
            del self.ahead[subscription.socket]
            self.live[subscription.socket] = subscription

    def send_again(self, seq: int, frame: bytes) -> None:
        """Send an encoded frame to the live sockets, in place of another one with its seq."""
        self.flush()
        self._give([(seq, frame)], list(self.live.values()))

    def _send(self, seq: int, frame: bytes) -> None:
        batcher = self.batcher
        if batcher.flatten is None or not self.live:
            self._give([(seq, frame)], list(self.live.values()))
            return
        turn = batcher.turn or batcher.begin()
        is_first, self._turn = self._turn is not turn, turn
        if is_first and not batcher.joining:
            self._hand_over([(seq, frame)])
            return
        if not self._owed:
            batcher.owing.append(self)
        self._owed.append((seq, frame))
        self._owed_size += len(frame)
        if len(self._owed) >= ITEMS or self._owed_size > RESUME_BELOW:
            self.flush()

    def owes(self, subscription: Subscription) -> bool:
        """Return whether frames of this turn are still to be sent to the socket of this subscription."""
        return bool(self._owed) and subscription.socket in self.live

    def flush(self) -> None:
        """Send the frames of this turn."""
        if self._owed:
            self._hand_over(self._take_owed())

    def spread(self) -> None:
        """Leave the frames of this turn to the queues of the sockets."""
        self._give(self._take_owed(), list(self.live.values()))

    def _take_owed(self) -> list[tuple[int, bytes]]:
        owed, self._owed, self._owed_size = self._owed, [], 0
        return owed

    def _hand_over(self, frames: Sequence[tuple[int, bytes]]) -> None:
        flat = self._flat or self._flatten()
        is_hidden = self._hidden_up_to and any(seq <= self._hidden_up_to for seq, _ in frames)
        if is_hidden or (self.batcher.dirty and not flat.idle):
            self._give(frames, list(self.live.values()))
            return
        data = frames[0][1] if len(frames) == 1 else b"".join([frame for _, frame in frames])
        if left := set(flat.send(data)):
            self._give(frames, [each for each in self.live.values() if each.socket.outbound in left])

    def _flatten(self) -> FlatList:
        assert self.batcher.flatten is not None
        self._flat = self.batcher.flatten([socket.outbound for socket in self.live])
        self._hidden_up_to = max((each.hidden_up_to for each in self.live.values()), default=0)
        return self._flat

    def _give(self, frames: Sequence[tuple[int, bytes]], members: Sequence[Subscription]) -> None:
        """Give frames to the queues of these live sockets, one by one."""
        lagging = list[Subscription]()
        for subscription in members:
            write = subscription.socket.outbound.write
            for seq, frame in frames:
                if subscription.hidden_up_to < seq and not write(frame):
                    subscription.cursor = seq - 1
                    lagging.append(subscription)
                    break
        for subscription in lagging:
            self._flat = None
            del self.live[subscription.socket]
            self.behind[subscription.socket] = subscription
        if lagging:
            self.on_lagging(lagging)

    def change_live(self) -> None:
        """Send what is owed to the sockets that are live until now: they are about to change."""
        self.flush()
        self._flat = None

    def go_live(self, subscription: Subscription) -> bool:
        """Make a subscription live, or ahead, unless its socket lacks released frames; return False if it does."""
        cursor = self.buffer.cursor
        lacks = cursor is None or subscription.cursor < cursor or subscription.reset_from is not None
        if subscription.gone or lacks:
            return subscription.gone
        if subscription.cursor == cursor:
            self.change_live()
        self.behind.pop(subscription.socket, None)
        (self.live if subscription.cursor == cursor else self.ahead)[subscription.socket] = subscription
        return True

    def reset(self, subscription: Subscription, start: int) -> None:
        """Begin the subscription's cursor anew: it is behind, and its socket is told before it is sent anything."""
        if subscription.gone:
            return
        if subscription.socket in self.live:
            self.change_live()
        subscription.cursor = start
        subscription.reset_from = start if subscription.reset_from is None else min(start, subscription.reset_from)
        for group in (self.live, self.ahead):
            group.pop(subscription.socket, None)
        self.behind[subscription.socket] = subscription

    def drop(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        if subscription.socket in self.live:
            self.change_live()
        subscription.gone = True
        for group in (self.live, self.ahead, self.behind):
            group.pop(subscription.socket, None)

    def broadcast(self, about: str, frame: bytes) -> None:
        """Send an encoded event about a user to the sockets of others; a slow reader does without."""
        for socket in self.live:
            if socket.user_id != about:
                socket.outbound.send_ephemeral(frame)

    def subscriptions(self) -> list[Subscription]:
        """Return all subscriptions, live or not."""
        return [*self.live.values(), *self.ahead.values(), *self.behind.values()]
