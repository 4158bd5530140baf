"""Devices of a trial: whom they believe to be out, and what they tell of what was read."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from millrace_client import LiveConnection

from tests import make
from verify.history import Room, Screen
from verify.receivers import Device, Stranger
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload


class Wire:
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, data: bytes, text: bool) -> None:
        assert text
        self.sent.append(orjson.loads(data))


def device() -> Device:
    workload = RoomWorkload(owner="alice", members=(), leaver="carol", stranger="mallory", devices=(), sends=())
    made = Device(
        Room(workload, make.ROOM), Screen(DeviceSpec(user="bob", device="desk", kind=DeviceKind.STEADY)), (), "token"
    )
    made.attach(LiveConnection((), "token"), 0)
    return made


async def connect(live: LiveConnection) -> Wire:
    """Open a new connection; return once the join is sent."""
    wire = Wire()
    live.opened(wire)
    await sent(wire, 1)
    return wire


async def sent(wire: Wire, count: int) -> None:
    """Wait until so many frames are sent."""
    async with asyncio.timeout(5):
        while len(wire.sent) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


def hear(live: LiveConnection, **fields: Any) -> None:
    live.receive(orjson.dumps(fields))


def show(live: LiveConnection, *seqs: int) -> None:
    for seq in seqs:
        hear(live, type="conversation_changed", conversationId=make.ROOM, seq=seq, change="member_added", userId="x")


@pytest.mark.parametrize(
    ("said", "is_out"),
    [
        ({"type": "error", "code": "not_found", "ref": 2}, True),
        ({"type": "left", "id": make.ROOM, "reason": "removed"}, True),
        ({"type": "error", "code": "not_found", "ref": 1}, False),  # the join that another one ended
        ({"type": "error", "code": "not_found", "ref": None}, False),  # a receipt that came before the join
        ({"type": "left", "id": "another", "reason": "removed"}, False),
    ],
)
async def test_only_the_answer_to_its_last_join_or_the_end_of_its_stay_puts_a_device_out(said, is_out):
    mine = device()
    wire = await connect(mine.live)
    mine.subscription.join()
    await sent(wire, 2)
    assert [frame["ref"] for frame in wire.sent] == [1, 2]
    hear(mine.live, **said)
    assert (mine.out.is_set(), mine.screen.until) == (is_out, 0 if is_out else None)


def told(wire: Wire) -> list[tuple[str, int]]:
    return [(frame["type"], frame["seq"]) for frame in wire.sent if "seq" in frame]


async def test_a_receipt_is_told_after_the_join_and_what_was_read_again_on_each_connection():
    mine = device()
    live, subscription = mine.live, mine.subscription
    wire = await connect(live)
    show(live, 1, 2, 3, 4, 5)
    await subscription.acknowledge(read=True)
    assert (told(wire), subscription.sync.read) == ([], 0)  # it would be refused
    hear(live, type="joined", id=make.ROOM, seq=5, ref=1)
    await subscription.acknowledge(read=True)
    show(live, 6, 7)
    await subscription.acknowledge()
    await subscription.acknowledge()
    assert told(wire) == [("read", 5), ("ack", 7)]
    again = await connect(live)
    hear(live, type="joined", id=make.ROOM, seq=7, ref=2)
    await sent(again, 3)
    await subscription.acknowledge()
    assert told(again) == [("read", 5), ("ack", 7)]
    assert subscription.sync.read == 5
    third = await connect(live)
    hear(live, type="joined", id=make.ROOM, seq=7, ref=3, deliveredSeq=7, readSeq=4)
    await sent(third, 2)
    assert told(third) == [("read", 5)]  # the store has the rest


def stranger() -> Stranger:
    return Stranger(device().room, (), "token")


async def test_it_is_counted_how_often_a_stranger_is_refused():
    mallory = stranger()
    mallory.attach(LiveConnection((), "token"))
    await connect(mallory.live)
    hear(mallory.live, type="error", code="unavailable", ref=0)
    assert mallory.room.refused == 0
    hear(mallory.live, type="error", code="not_found", ref=1)
    assert (mallory.room.refused, mallory.room.frames_to_stranger) == (1, 0)


async def test_a_stranger_whose_connection_dies_dies_with_it(monkeypatch):
    async def die(_: LiveConnection) -> None:
        raise KeyError("type")

    monkeypatch.setattr(LiveConnection, "run", die)
    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await stranger().run()
