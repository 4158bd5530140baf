"""Rooms of this node with their reorder buffers, and the subscriptions of sockets to them.

A subscription is *live* while its socket has exactly what the buffer has released. Every other one (a join, a slow
reader) is *behind*: it is caught up from the store, which has had everything before any buffer releases it, and becomes
live in the same turn of the loop in which it reaches the buffer's cursor. So nothing falls in between, and nothing has
to be kept for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.channels import Envelope
from gateway.reorder_buffer import ReorderBuffer
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
    """A conversation that sockets of this node have joined. ``epoch``: that of the seqs in its buffer."""

    conversation_id: str
    epoch: str = ""
    buffer: ReorderBuffer[Envelope] = field(default_factory=ReorderBuffer)
    live: dict[Socket, Subscription] = field(default_factory=dict)
    ahead: dict[Socket, Subscription] = field(default_factory=dict)
    behind: dict[Socket, Subscription] = field(default_factory=dict)
    fetching: bool = False
    settling: bool = False

    @property
    def empty(self) -> bool:
        """True while no socket is subscribed."""
        return not (self.live or self.ahead or self.behind)

    def release(self, seq: int, frame: bytes) -> list[Subscription]:
        """Send an encoded frame that was released; return the subscriptions that could not take it, now behind."""
        lagging = self.send_again(seq, frame)
        if self.ahead:
            for subscription in [p for p in self.ahead.values() if p.cursor <= seq]:
                del self.ahead[subscription.socket]
                self.live[subscription.socket] = subscription
        return lagging

    def send_again(self, seq: int, frame: bytes) -> list[Subscription]:
        """Send an encoded frame to the live sockets; return the subscriptions that could not take it, now behind."""
        allowed = [subscription for subscription in self.live.values() if subscription.hidden_up_to < seq]
        lagging = [subscription for subscription in allowed if not subscription.socket.outbound.write(frame)]
        for subscription in lagging:
            del self.live[subscription.socket]
            subscription.cursor = seq - 1
            self.behind[subscription.socket] = subscription
        return lagging

    def go_live(self, subscription: Subscription) -> bool:
        """Make a subscription live, or ahead, unless its socket lacks released frames; return False if it does."""
        cursor = self.buffer.cursor
        lacks = cursor is None or subscription.cursor < cursor or subscription.reset_from is not None
        if subscription.gone or lacks:
            return subscription.gone
        self.behind.pop(subscription.socket, None)
        (self.live if subscription.cursor == cursor else self.ahead)[subscription.socket] = subscription
        return True

    def reset(self, subscription: Subscription, start: int) -> None:
        """Begin the subscription's cursor anew: it is behind, and its socket is told before it is sent anything."""
        if subscription.gone:
            return
        subscription.cursor = start
        subscription.reset_from = start if subscription.reset_from is None else min(start, subscription.reset_from)
        for group in (self.live, self.ahead):
            group.pop(subscription.socket, None)
        self.behind[subscription.socket] = subscription

    def drop(self, subscription: Subscription) -> None:
        """Remove a subscription."""
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


@dataclass(slots=True)
class Hub:
    """Rooms and sockets of the node. ``on_unsubscribe`` gets each subscription that ends, for whatever reason."""

    rooms: dict[str, Room] = field(default_factory=dict)
    users: defaultdict[str, set[Socket]] = field(default_factory=lambda: defaultdict(set))
    on_unsubscribe: Callable[[Subscription], None] = lambda _: None

    def enter(self, socket: Socket) -> bool:
        """Add a socket; return True when it is the user's first here."""
        first = not self.users.get(socket.user_id)
        self.users[socket.user_id].add(socket)
        return first

    def leave(self, socket: Socket) -> list[Room]:
        """Remove a socket with its subscriptions; return the rooms that are empty now."""
        emptied = [room for room in map(self.unsubscribe, list(socket.subscriptions.values())) if room is not None]
        sockets = self.users[socket.user_id]
        sockets.discard(socket)
        if not sockets:
            del self.users[socket.user_id]
        return emptied

    def subscribe(self, socket: Socket, conversation_id: str) -> Subscription:
        """Subscribe the socket to the room, behind at first; the room is made if need be."""
        room = self.rooms.get(conversation_id)
        if room is None:
            room = self.rooms[conversation_id] = Room(conversation_id)
        subscription = Subscription(socket, room)
        socket.subscriptions[conversation_id] = subscription
        room.behind[socket] = subscription
        return subscription

    def unsubscribe(self, subscription: Subscription) -> Room | None:
        """End a subscription; return its room when that is empty now."""
        subscription.room.drop(subscription)
        subscription.socket.subscriptions.pop(subscription.room.conversation_id, None)
        subscription.socket.joined.discard(subscription.room.conversation_id)
        self.on_unsubscribe(subscription)
        if subscription.room.empty:
            self.rooms.pop(subscription.room.conversation_id, None)
            return subscription.room
        return None

    def sockets_of(self, user_id: str, *, without: str | None) -> Iterable[Socket]:
        """Return the user's sockets, but those that have joined the conversation ``without``."""
        return [socket for socket in self.users.get(user_id, ()) if without not in socket.subscriptions]
