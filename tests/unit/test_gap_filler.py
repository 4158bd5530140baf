"""Gaps are fetched when they count as lost, and nothing runs for a room without one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.errors import Unavailable
from gateway.channels import Envelope, Kind
from gateway.gap_filler import GapFiller
from gateway.hub import Hub
from gateway.reorder_buffer import REORDER_S
from gateway.room import Room, Socket
from schemas.messages import Change
from tests import make


@dataclass
class Store:
    """A history with all seqs up to its head, of which a page holds two."""

    head: int = 9
    down: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        if self.down:
            raise Unavailable("PostgreSQL does not answer")
        self.asked.append((after, up_to))
        return [
            Change(conversation_id=conversation_id, seq=seq, kind="member_added", data={})
            for seq in range(after + 1, min(up_to, after + 2) + 1)
        ]


@dataclass
class Filled:
    """A room with a gap filler, and the seqs that were released."""

    store: Store = field(default_factory=Store)
    released: list[int] = field(default_factory=list)
    room: Room = field(init=False)
    gaps: GapFiller = field(init=False)

    def __post_init__(self) -> None:
        hub = Hub()
        self.room = hub.subscribe(Socket("c", "bob", None), make.ROOM).room
        self.room.buffer.start(0, self.now())
        self.hub = hub
        self.gaps = GapFiller(hub, self.store, self.bound, self.fill, 0.01)

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    async def bound(self, room: Room) -> int:
        return self.store.head

    def fill(self, room: Room, changes: Sequence[Change]) -> None:
        for change in changes:
            self.take(room.buffer.fill(change.seq, envelope(change.seq), self.now()))

    def take(self, released: Sequence[tuple[int, Envelope]]) -> None:
        self.released += [seq for seq, _ in released]

    def push(self, *seqs: int) -> None:
        for seq in seqs:
            self.take(self.room.buffer.push(seq, envelope(seq), self.now()))
            self.gaps.watch(self.room)

    async def until(self, seq: int) -> None:
        async with asyncio.timeout(5):
            while self.released[-1:] != [seq]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


def envelope(seq: int) -> Envelope:
    return Envelope(Kind.MEMBER_ADDED, seq, "bob", b"{%d}" % seq)


async def test_a_room_without_a_gap_has_no_timer():
    filled = Filled()
    filled.push(1, 2, 3)
    assert not filled.room.watched


async def test_a_gap_is_fetched_when_it_counts_as_lost_and_page_by_page():
    filled = Filled()
    began = filled.now()
    filled.push(1, 7)
    await filled.until(7)
    assert filled.now() - began >= REORDER_S - 0.005
    assert filled.released == list(range(1, 8))
    assert filled.store.asked == [(1, 6), (3, 6), (5, 6)]
    async with asyncio.timeout(5):
        while filled.room.watched or filled.room.fetching:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_gap_that_closes_by_itself_is_not_fetched_and_the_next_one_gets_its_time():
    filled = Filled()
    filled.push(2)
    await asyncio.sleep(REORDER_S / 2)
    filled.push(1, 4)
    began = filled.now()
    await filled.until(4)
    assert filled.now() - began >= REORDER_S - 0.005
    assert filled.store.asked == [(2, 3)]


async def test_while_the_store_is_away_the_gap_is_tried_again():
    filled = Filled()
    filled.store.down = True
    filled.push(2)
    await asyncio.sleep(2 * REORDER_S)
    assert filled.released == []
    filled.store.down = False
    await filled.until(2)


async def test_a_room_that_nobody_is_in_any_more_is_left_alone():
    filled = Filled()
    filled.push(2)
    del filled.hub.rooms[make.ROOM]
    async with asyncio.timeout(5):
        while filled.room.watched:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert (filled.store.asked, filled.room.fetching) == ([], False)
