"""Hub: the rooms and sockets of a node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.room import Room, Socket, Subscription
from gateway.send_queue import WriteBatcher


@dataclass(slots=True)
class Hub:
    """Rooms and sockets of the node. ``on_unsubscribe`` gets each subscription that ends, for whatever reason;
    ``on_lagging`` those that could not take a frame."""

    rooms: dict[str, Room] = field(default_factory=dict)
    users: defaultdict[str, set[Socket]] = field(default_factory=lambda: defaultdict(set))
    on_unsubscribe: Callable[[Subscription], None] = lambda _: None
    on_lagging: Callable[[Sequence[Subscription]], None] = lambda _: None
    batcher: WriteBatcher = field(default_factory=WriteBatcher)

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
            room = self.rooms[conversation_id] = Room(conversation_id, self.batcher, self.on_lagging)
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
