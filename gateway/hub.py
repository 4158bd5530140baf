"""Who is on this node: rooms with their feeds, and the sockets that are in step with them.

A socket is *live* in a room while it has exactly what the feed has given out. Everything else (a join, a slow
reader) is a socket *behind*: it is caught up from the store, where everything that a feed gives out has been before,
and becomes live in the same turn of the loop in which it reaches the feed's cursor. So nothing falls in between, and
nothing has to be kept for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.reorder_buffer import Feed


class Outbound(Protocol):
    """A socket, as the hub needs it."""

    def write(self, frame: bytes) -> bool:
        """Take an encoded frame; False when too much waits already."""

    def spare(self, frame: bytes) -> None:
        """Take an encoded frame that the client can do without, if little waits."""

    def news(self, payload: bytes, encoded: bytes) -> None:
        """Take a frame, or hold it in place of the one before it on the same subject until there is room."""

    async def room(self) -> None:
        """Return once little waits; of a connection that is closing, once it has ended."""

    def cut(self) -> None:
        """End the connection without a word."""


@dataclass(slots=True, eq=False)
class Socket:
    """One connection of a user. ``places``: the conversations that it joined."""

    connection_id: str
    user_id: str
    wire: Outbound
    places: dict[str, Place] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Place:
    """One socket in one room. While it is not live, ``cursor`` is what it has. Its user came at ``since``."""

    socket: Socket
    room: Room
    cursor: int = 0
    since: int = 0
    gone: bool = False

    @property
    def has(self) -> int:
        """The seq up to which the socket has been given everything."""
        live = self.socket in self.room.live
        return self.room.feed.cursor or 0 if live else self.cursor


@dataclass(slots=True, eq=False)
class Room:
    """A conversation that sockets of this node have joined."""

    conversation_id: str
    feed: Feed = field(default_factory=Feed)
    live: dict[Socket, Place] = field(default_factory=dict)
    ahead: dict[Socket, Place] = field(default_factory=dict)
    behind: dict[Socket, Place] = field(default_factory=dict)
    fetching: bool = False

    @property
    def empty(self) -> bool:
        """Whether nobody is here."""
        return not (self.live or self.ahead or self.behind)

    def give(self, seq: int, frame: bytes) -> list[Place]:
        """The feed gives out this (encoded) frame; those who could not take it are behind now, and returned."""
        lagging = [place for socket, place in self.live.items() if not socket.wire.write(frame)]
        for place in lagging:
            del self.live[place.socket]
            place.cursor = seq - 1
            self.behind[place.socket] = place
        if self.ahead:
            for place in [p for p in self.ahead.values() if p.cursor <= seq]:
                del self.ahead[place.socket]
                self.live[place.socket] = place
        return lagging

    def settle(self, place: Place) -> bool:
        """Make the place live if it has what the feed has given out, or more; False while it is behind."""
        cursor = self.feed.cursor
        if place.gone or cursor is None or place.cursor < cursor:
            return place.gone
        self.behind.pop(place.socket, None)
        (self.live if place.cursor == cursor else self.ahead)[place.socket] = place
        return True

    def drop(self, place: Place) -> None:
        """The socket is here no more."""
        place.gone = True
        for group in (self.live, self.ahead, self.behind):
            group.pop(place.socket, None)

    def tell(self, about: str, frame: bytes) -> None:
        """An (encoded) event about a user, to the sockets of others; a slow reader does without."""
        for socket in self.live:
            if socket.user_id != about:
                socket.wire.spare(frame)

    def everybody(self) -> list[Place]:
        """All places, live or not."""
        return [*self.live.values(), *self.ahead.values(), *self.behind.values()]


@dataclass(slots=True)
class Hub:
    """All rooms and sockets of the node. ``parted`` is told of each place that is given up, for whatever reason."""

    rooms: dict[str, Room] = field(default_factory=dict)
    users: defaultdict[str, set[Socket]] = field(default_factory=lambda: defaultdict(set))
    parted: Callable[[Place], None] = lambda _: None

    def enter(self, socket: Socket) -> bool:
        """A connection opened; True when it is the user's first here."""
        first = not self.users.get(socket.user_id)
        self.users[socket.user_id].add(socket)
        return first

    def leave(self, socket: Socket) -> list[Room]:
        """A connection ended; returns the rooms that are empty now."""
        emptied = [room for room in map(self.part, list(socket.places.values())) if room is not None]
        mine = self.users[socket.user_id]
        mine.discard(socket)
        if not mine:
            del self.users[socket.user_id]
        return emptied

    def place(self, socket: Socket, conversation_id: str) -> Place:
        """Put the socket behind in the room, which is made if need be."""
        room = self.rooms.get(conversation_id)
        if room is None:
            room = self.rooms[conversation_id] = Room(conversation_id)
        place = Place(socket, room)
        socket.places[conversation_id] = place
        room.behind[socket] = place
        return place

    def part(self, place: Place) -> Room | None:
        """Take the socket out of the room; returns the room when it is empty now."""
        place.room.drop(place)
        place.socket.places.pop(place.room.conversation_id, None)
        self.parted(place)
        if place.room.empty:
            self.rooms.pop(place.room.conversation_id, None)
            return place.room
        return None

    def not_in(self, user_id: str, conversation_id: str) -> Iterable[Socket]:
        """The user's sockets that have not joined the conversation."""
        return [s for s in self.users.get(user_id, ()) if conversation_id not in s.places]
