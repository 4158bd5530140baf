"""Rooms: who is live gets everything once; who is behind is caught up without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from gateway.channels import Envelope
from gateway.hub import Hub
from gateway.room import Socket, Subscription
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

    def send_ephemeral(self, frame: bytes) -> None:
        self.write(frame)

    def send_latest(self, envelope: Envelope, encoded: bytes) -> None:
        self.write(encoded)

    async def drained(self) -> None:
        pass


def socket(user: str = "bob") -> Socket:
    return Socket(f"c-{user}", user, Pipe())


def pipe(place: Subscription) -> Pipe:
    return cast(Pipe, place.socket.outbound)


def test_a_place_is_live_when_it_has_what_the_feed_gave_out():
    hub = Hub()
    place = hub.subscribe(socket(), make.ROOM)
    place.room.buffer.start(5, 0)
    place.cursor = 4
    assert not place.room.go_live(place)
    place.cursor = 5
    assert place.room.go_live(place)
    place.room.release(6, b"six")
    assert pipe(place).got == [b"six"]


def test_a_place_that_knows_more_than_the_feed_gets_nothing_twice():
    hub = Hub()
    place = hub.subscribe(socket(), make.ROOM)
    room = place.room
    room.buffer.start(5, 0)
    place.cursor = 7  # the store was read after two more commits
    assert room.go_live(place)
    for seq in (6, 7, 8):
        room.release(seq, b"%d" % seq)
    assert pipe(place).got == [b"8"]


def test_a_full_socket_falls_behind_at_the_right_place():
    lagging: list[Subscription] = []
    hub = Hub(on_lagging=lagging.extend)
    slow, quick = hub.subscribe(socket("slow"), make.ROOM), hub.subscribe(socket("quick"), make.ROOM)
    room = slow.room
    room.buffer.start(0, 0)
    assert room.go_live(slow)
    assert room.go_live(quick)
    pipe(slow).full = True
    room.release(1, b"1")
    room.release(2, b"2")
    assert lagging == [slow]
    assert (slow.cursor, pipe(quick).got) == (0, [b"1", b"2"])
    assert slow.socket in room.behind


def test_leaving_ends_everything_of_a_socket():
    hub = Hub()
    one = socket()
    assert hub.enter(one)
    place = hub.subscribe(one, make.ROOM)
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
    hub.subscribe(joined, make.ROOM)
    assert list(hub.sockets_of("bob", without=make.ROOM)) == [other]
    assert set(hub.sockets_of("bob", without=None)) == {joined, other}


def test_a_place_that_is_reset_is_sent_nothing_until_it_was_told():
    hub = Hub()
    place = hub.subscribe(socket(), make.ROOM)
    room = place.room
    room.buffer.start(5, 0)
    place.place(5)
    assert room.go_live(place)
    room.reset(place, 3)
    room.reset(place, 4)
    room.release(6, b"six")
    assert (place.reset_from, pipe(place).got) == (3, [])
    place.cursor = 6
    assert not room.go_live(place)
    place.reset_from = None
    room.buffer.cursor = 6
    assert room.go_live(place)


def test_a_place_that_has_gone_stays_gone_when_it_is_reset():
    hub = Hub()
    place = hub.subscribe(socket(), make.ROOM)
    hub.unsubscribe(place)
    place.room.reset(place, 3)
    assert place.room.empty
