"""Rooms: who is live gets everything once; who is behind is caught up without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.hub import Hub, Socket
from tests import make


@dataclass
class Pipe:
    """A socket's writer that can be full."""

    got: list[bytes] = field(default_factory=list)
    full: bool = False

    def write(self, frame: bytes) -> bool:
        if not self.full:
            self.got.append(frame)
        return not self.full

    def spare(self, frame: bytes) -> None:
        self.write(frame)

    def news(self, payload: bytes, encoded: bytes) -> None:
        self.write(encoded)

    async def room(self) -> None:
        pass


def socket(user: str = "bob") -> Socket:
    return Socket(f"c-{user}", user, Pipe())


def test_a_place_is_live_when_it_has_what_the_feed_gave_out():
    hub = Hub()
    place = hub.place(socket(), make.ROOM)
    place.room.feed.start(5, 0)
    place.cursor = 4
    assert not place.room.settle(place)
    place.cursor = 5
    assert place.room.settle(place)
    place.room.give(6, b"six")
    assert place.socket.wire.got == [b"six"]


def test_a_place_that_knows_more_than_the_feed_gets_nothing_twice():
    hub = Hub()
    place = hub.place(socket(), make.ROOM)
    room = place.room
    room.feed.start(5, 0)
    place.cursor = 7  # the store was read after two more commits
    assert room.settle(place)
    for seq in (6, 7, 8):
        room.give(seq, b"%d" % seq)
    assert place.socket.wire.got == [b"8"]


def test_a_full_socket_falls_behind_at_the_right_place():
    hub = Hub()
    slow, quick = hub.place(socket("slow"), make.ROOM), hub.place(socket("quick"), make.ROOM)
    room = slow.room
    room.feed.start(0, 0)
    assert room.settle(slow)
    assert room.settle(quick)
    slow.socket.wire.full = True
    assert room.give(1, b"1") == [slow]
    assert room.give(2, b"2") == []
    assert (slow.cursor, quick.socket.wire.got) == (0, [b"1", b"2"])
    assert slow.socket in room.behind


def test_leaving_ends_everything_of_a_socket():
    hub = Hub()
    one = socket()
    assert hub.enter(one)
    place = hub.place(one, make.ROOM)
    emptied = hub.leave(one)
    assert [room.conversation_id for room in emptied] == [make.ROOM]
    assert place.gone
    assert hub.rooms == {}
    assert not hub.users


def test_a_users_other_sockets_are_told_from_those_that_joined():
    hub = Hub()
    joined, other = socket(), socket()
    hub.enter(joined)
    assert not hub.enter(other)
    hub.place(joined, make.ROOM)
    assert list(hub.not_in("bob", make.ROOM)) == [other]
