"""Devices of a trial: whom they believe to be out, and what they tell of what was read."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from millrace_client.connection import Live

from tests import make
from verify.history import Room, Screen
from verify.receivers import Device, Stranger
from verify.workload import Kind, RoomScript, Seat


class Wire:
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, text: str) -> None:
        self.sent.append(orjson.loads(text))


def device() -> Device:
    script = RoomScript(owner="alice", members=(), leaver="carol", stranger="mallory", seats=(), sends=())
    made = Device(Room(script, make.ROOM), Screen(Seat(user="bob", device="desk", kind=Kind.STEADY)), (), "token")
    made.live = Live((), "token", make.ROOM, made, after=0)
    return made


async def connect(live: Live) -> Wire:
    """A new connection, on which the join is sent."""
    wire: Any = Wire()
    live._socket, live._acked, live._read = wire, 0, 0
    await live._join(wire)
    return wire


def hear(live: Live, **said: Any) -> None:
    live._arrived(orjson.dumps(said))


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
    await mine.live._join(wire)
    assert [frame["ref"] for frame in wire.sent] == [1, 2]
    hear(mine.live, **said)
    assert (mine.out.is_set(), mine.screen.until) == (is_out, 0 if is_out else None)


def told(wire: Wire) -> list[tuple[str, int]]:
    return [(frame["type"], frame["seq"]) for frame in wire.sent if "seq" in frame]


async def test_a_receipt_is_told_after_the_join_and_what_was_read_again_on_each_connection():
    live = device().live
    wire = await connect(live)
    live.cursor = 5
    await live.acknowledge(read=True)
    assert (told(wire), live.read) == ([], 0)  # it would be refused
    hear(live, type="joined", id=make.ROOM, seq=5)
    await live.acknowledge(read=True)
    live.cursor = 7
    await live.acknowledge()
    await live.acknowledge()
    assert told(wire) == [("read", 5), ("ack", 7)]
    again = await connect(live)
    hear(live, type="joined", id=make.ROOM, seq=7)
    await live.acknowledge()
    assert told(again) == [("read", 5), ("ack", 7)]
    assert live.read == 5


def stranger() -> Stranger:
    made = Stranger(device().room, (), "token")
    made.live = Live((), "token", make.ROOM, made, after=0)
    return made


async def test_it_is_counted_how_often_a_stranger_is_refused():
    mallory = stranger()
    await connect(mallory.live)
    hear(mallory.live, type="error", code="unavailable", ref=0)
    assert mallory.room.refused == 0
    hear(mallory.live, type="error", code="not_found", ref=1)
    assert (mallory.room.refused, mallory.room.strange) == (1, 0)


async def test_a_stranger_whose_connection_dies_dies_with_it(monkeypatch):
    async def die(_: Live) -> None:
        raise KeyError("type")

    monkeypatch.setattr(Live, "run", die)
    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await stranger().run()
