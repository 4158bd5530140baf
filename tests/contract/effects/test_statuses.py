"""Statuses and watermarks: the twin and PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest

from domain import watermarks
from domain.watermarks import DEVICES_PER_MEMBER, Watermark
from schemas.fields import MAX_SEQ
from schemas.ids import new_id
from schemas.messages import Status
from tests import make


async def test_status_moves_forward_and_never_back(world):
    message = await world.send()
    assert await world.status_of(message.message_id) == "pending"
    await world.statuses.mark_sent([message])
    assert await world.status_of(message.message_id) == "sent"
    await world.fold("bob", 1)
    assert await world.status_of(message.message_id) == "delivered"
    await world.fold("bob", 1, 1)
    assert await world.status_of(message.message_id) == "read"
    await world.statuses.mark_sent([message])
    await world.fold("carol", 1)
    assert await world.status_of(message.message_id) == "read"


async def test_only_what_the_store_has_in_its_place_becomes_sent(world):
    message = await world.send()
    elsewhere = msgspec.structs.replace(message, seq=2)
    foreign = make.message(conversation_id=world.room, seq=1)
    forged = msgspec.structs.replace(message, content="I never said this", sender_id="eve", status="read")
    assert (await world.statuses.mark_sent([foreign])).messages == {}
    assert (await world.statuses.mark_sent([elsewhere, foreign])).messages == {message.message_id: message}
    assert await world.status_of(message.message_id) == "pending"
    assert (await world.statuses.mark_sent([forged, forged])).messages == {message.message_id: message}
    assert await world.status_of(message.message_id) == "sent"


async def test_receipts_of_no_member_and_beyond_the_head_move_nothing_and_hide_no_true_one(world):
    await world.send()
    marks = [
        Watermark(world.room, "bob", 1, 0, "phone"),
        Watermark(world.room, "bob", MAX_SEQ, MAX_SEQ, "phone"),
        Watermark(world.room, "eve", 1, 1),
        Watermark(new_id(), "bob", 1, 1),
        Watermark(world.room, "carol", 0, 0),
    ]
    moved = await world.statuses.advance(marks, 32)
    assert [(m.user_id, m.status, m.seq) for m in moved.advances] == [("bob", Status.DELIVERED, 1)]
    assert list(moved.refused) == marks[1:4]
    assert await world.devices() == {"phone": (1, 0)}
    assert await world.devices("carol") == {}


async def test_a_receipt_may_come_before_its_message_is_sent(world):
    message = await world.send()
    [moved] = await world.fold("bob", 1)
    assert (moved.status, moved.message_ids) == (Status.DELIVERED, (message.message_id,))
    await world.statuses.mark_sent([message])
    assert await world.status_of(message.message_id) == "delivered"


async def test_a_watermark_never_falls_nor_passes_the_head(world):
    for _ in range(3):
        await world.send()
    beyond = Watermark(world.room, "bob", 4, 0)
    moved = await world.statuses.advance([beyond, Watermark(world.room, "bob", 3, 0)], 32)
    assert [(m.seq, m.delivered_seq) for m in moved.advances] == [(3, 3)]
    assert moved.refused == [beyond]
    assert await world.devices() == {"-": (3, 0)}
    assert await world.fold("bob", 2) == []
    [read] = await world.fold("bob", 0, 3)
    assert (read.status, read.delivered_seq, read.read_seq) == (Status.READ, 3, 3)


async def test_the_watermark_of_a_member_is_the_furthest_of_the_devices(world):
    for _ in range(5):
        await world.send()

    async def fold(*receipts: tuple[str, int, int]) -> list[tuple[Status, int]]:
        marks = [Watermark(world.room, "bob", delivered, read, device) for device, delivered, read in receipts]
        return [(m.status, m.seq) for m in (await world.statuses.advance(marks, 32)).advances]

    assert await fold(("phone", 2, 0), ("desk", 4, 1), ("phone", 3, 0)) == [(Status.DELIVERED, 4), (Status.READ, 1)]
    assert await fold(("phone", 1, 0)) == []
    assert await world.devices() == {"phone": (3, 0), "desk": (4, 1)}
    assert await fold(("phone", 5, 4), ("desk", 6, 6)) == [(Status.DELIVERED, 5), (Status.READ, 4)]
    assert await world.devices() == {"phone": (5, 4), "desk": (4, 1)}


async def test_a_mark_far_beyond_is_reached_in_steps_of_which_each_is_whole(world, monkeypatch: pytest.MonkeyPatch):
    """A crash between two of them leaves watermarks and statuses that agree, and the same mark goes on from there."""
    monkeypatch.setattr(watermarks, "SEQS_MAX", 4)
    messages = [await world.send() for _ in range(10)]

    async def call(*marks: Watermark) -> tuple[list[tuple[str, Status, int, int]], set[tuple[str, str]]]:
        moved = await world.statuses.advance(marks, 32)
        assert moved.refused == []
        advances = sorted((m.user_id, m.status, m.seq, len(m.message_ids)) for m in moved.advances)
        return advances, set(moved.unfinished)

    async def statuses() -> str:
        return "".join([(await world.status_of(message.message_id))[0] for message in messages])

    mark, bob = Watermark(world.room, "bob", 9, 6), (world.room, "bob")
    assert await call(mark) == ([("bob", Status.DELIVERED, 4, 4), ("bob", Status.READ, 4, 4)], {bob})
    assert await statuses() == "rrrrpppppp"
    assert await call(mark) == ([("bob", Status.DELIVERED, 8, 4), ("bob", Status.READ, 6, 2)], {bob})
    assert await statuses() == "rrrrrrddpp"
    assert await call(mark) == ([("bob", Status.DELIVERED, 9, 1)], set())
    both = (Watermark(world.room, "bob", 10, 10), Watermark(world.room, "carol", 1, 0))
    assert await call(*both) == (
        [("bob", Status.DELIVERED, 10, 1), ("bob", Status.READ, 8, 2), ("carol", Status.DELIVERED, 1, 0)],
        {bob},
    )
    assert await call(both[0]) == ([("bob", Status.READ, 10, 2)], set())
    assert await call(both[0]) == ([("bob", Status.DELIVERED, 10, 0), ("bob", Status.READ, 10, 0)], set())
    assert await statuses() == "r" * 10


async def test_of_invented_devices_the_latest_are_kept_and_the_member_loses_nothing(world):
    for _ in range(5):
        await world.send()

    async def fold(*marks: tuple[str, int]) -> None:
        await world.statuses.advance([Watermark(world.room, "bob", seq, 0, device) for device, seq in marks], 32)

    await fold(("phone", 5))
    await fold(*((f"invented-{number}", 1) for number in range(100)))
    devices = await world.devices()
    assert len(devices) == DEVICES_PER_MEMBER
    assert "phone" not in devices
    await fold(("phone", 4), ("desk", 3))
    devices = await world.devices()
    assert len(devices) == DEVICES_PER_MEMBER
    assert (devices["phone"], devices["desk"]) == ((4, 0), (3, 0))
    [moved] = await world.fold("bob", 5)
    assert moved.delivered_seq == 5
    assert await world.fold("bob", 4) == []


async def test_reading_implies_delivery(world):
    await world.send()
    delivered, read = await world.fold("bob", 0, 1)
    assert (delivered.status, read.status) == (Status.DELIVERED, Status.READ)
    assert (read.delivered_seq, read.read_seq) == (1, 1)


async def test_the_current_watermark_is_told_again_in_case_the_telling_was_lost(world):
    await world.send()
    await world.fold("bob", 1)
    [again] = await world.fold("bob", 1)
    assert (again.seq, again.notify, again.message_ids) == (1, ("alice",), ())


async def test_senders_in_large_conversations_hear_only_what_moves_their_messages(world):
    await world.send()
    assert [m.notify for m in await world.fold("bob", 1, everybody=2)] == [("alice",)]
    assert await world.fold("carol", 1, everybody=2) == []
    await world.send()
    await world.fold("bob", 2, everybody=32)
    assert [m.notify for m in await world.fold("carol", 2, everybody=32)] == [("alice",)]


async def test_own_messages_and_strangers_move_nothing(world):
    await world.send(sender="alice")
    assert await world.fold("alice", 1) == []
    assert await world.fold("eve", 1) == []


async def test_what_people_were_told_of_is_known_from_the_store(world):
    message = await world.send()
    assert await world.statuses.sent([message.message_id]) == set()
    assert await world.statuses.watermarks([(world.room, "bob")]) == {}
    await world.statuses.mark_sent([message])
    await world.fold("bob", 1)
    assert await world.statuses.sent([message.message_id, new_id()]) == {message.message_id}
    assert await world.statuses.watermarks([(world.room, "bob"), (world.room, "carol")]) == {
        (world.room, "bob"): (1, 0)
    }
    assert await world.media.told([message.message_id]) == set()
