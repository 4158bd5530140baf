"""Coming to rest: what is waited for, and how long."""

from __future__ import annotations

import pytest
from millrace_client import LiveConnection

from tests import make
from verify import quiescence as resting
from verify.history import Attempt, History, Room, Screen, Sending, SentReceipt
from verify.quiescence import QUIET_S, Quiescence, is_over, no_lags
from verify.receivers import Device
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload, Send, SendMode


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Shop:
    """A store with one conversation and the marks of bob, which change at a time."""

    def __init__(self, clock: Clock, head: int, before: tuple[int, int], at: float, after: tuple[int, int]) -> None:
        self.clock, self.head, self.before, self.at, self.after = clock, head, before, at, after
        self.notified_at = self.decided_at = 0.0

    async def heads(self) -> dict[str, int]:
        return {make.ROOM: self.head}

    async def owed(self) -> tuple[int, int]:
        return 0, 0

    async def devices(self) -> list[tuple[str, str, str, int, int]]:
        return [(make.ROOM, "bob", "desk", *(self.before if self.clock.now < self.at else self.after))]

    async def marks(self) -> list[tuple[str, str, int, int]]:
        return [(conversation, user, *seqs) for conversation, user, _, *seqs in await self.devices()]

    async def undecided(self) -> int:
        return int(self.clock.now < self.decided_at)

    async def notifications(self) -> list[tuple[str, str, str, str, int, bool]]:
        late = [] if self.clock.now < self.notified_at else [(make.ROOM, "n5", "amos", "m5", 5, False)]
        return [(make.ROOM, f"n{seq}", "amos", f"m{seq}", seq, False) for seq in range(1, 5)] + late


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resting, "time", clock)
    monkeypatch.setattr(resting, "asyncio", clock)
    return clock


def bob(cursor: int, read: int) -> Device:
    workload = RoomWorkload(owner="alice", members=(), leaver="carol", stranger="mallory", devices=(), sends=())
    made = Device(
        Room(workload, make.ROOM), Screen(DeviceSpec(user="bob", device="desk", kind=DeviceKind.STEADY)), (), "token"
    )
    made.screen.seqs.extend(range(1, cursor + 1))
    made.attach(LiveConnection((), "token"), 0)
    made.screen.receipts.append(SentReceipt(0.0, cursor, read))
    return made


def room_of_amos() -> Room:
    """Return the conversation with five messages of alice, and amos, who never connects."""
    room = Room(RoomWorkload(owner="alice", members=("alice", "bob", "amos"), absent=("amos",)), make.ROOM)
    for seq in range(1, 6):
        send = Send(at=0, sender="alice", key=f"k{seq}", content="hi", mode=SendMode.PLAIN)
        room.sendings.append(Sending(send, [Attempt(0, 1, 201, f"m{seq}", seq)]))
    return room


async def waited(shop: Shop, device: Device) -> History:
    history = History("v", 1, rooms=[room_of_amos()])
    await Quiescence(history, shop, [device], no_lags, lambda _: None).wait()
    return history


async def test_everything_is_there(clock):
    history = await waited(Shop(clock, 5, (5, 3), 0, (5, 3)), bob(5, read=3))
    assert (history.quiet_s, history.waiting) == (0, [])


async def test_what_was_read_and_is_not_stored_is_waited_for_and_missed(clock):
    history = await waited(Shop(clock, 5, (5, 0), 0, (5, 0)), bob(5, read=3))
    assert history.quiet_s is None
    assert history.waiting == ["the word of bob that 3 was read"]


async def test_a_notification_of_who_was_not_reached_is_waited_for_and_missed(clock):
    shop = Shop(clock, 5, (5, 3), 0, (5, 3))
    shop.notified_at = 7.0
    history = await waited(shop, bob(5, read=3))
    assert history.waiting == []
    assert 7 <= history.quiet_s < 8
    shop.notified_at = float("inf")
    history = await waited(shop, bob(5, read=3))
    assert history.waiting == ["notifications of amos: 1"]


async def test_a_decision_about_notifications_is_waited_for(clock):
    shop = Shop(clock, 5, (5, 3), 0, (5, 3))
    shop.decided_at = 6.0
    history = await waited(shop, bob(5, read=3))
    assert history.waiting == []
    assert 6 <= history.quiet_s < 7


async def test_nobody_waits_for_a_phone_that_has_gone_away(clock):
    device = bob(4, read=3)
    device.is_away = True
    history = await waited(Shop(clock, 5, (4, 0), 0, (4, 0)), device)
    assert (history.quiet_s, history.waiting) == (0, [])


async def test_a_member_who_was_put_out_is_waited_for(clock):
    device = bob(4, read=0)
    device.out.set()
    history = await waited(Shop(clock, 5, (4, 0), 0, (4, 0)), device)
    assert history.quiet_s is None
    assert history.waiting == ["bob (steady) at 4"]


async def test_nobody_gives_up_before_the_time_that_is_promised_is_over(clock):
    history = await waited(Shop(clock, 5, (4, 0), QUIET_S - 1, (5, 0)), bob(5, read=0))
    assert history.waiting == []
    assert QUIET_S - 1 <= history.quiet_s <= QUIET_S


def test_after_that_time_it_is_given_up_when_nothing_moves_or_as_much_again_has_passed():
    assert not is_over(QUIET_S, 1)
    assert is_over(QUIET_S, QUIET_S)
    assert is_over(2 * QUIET_S, 0)
