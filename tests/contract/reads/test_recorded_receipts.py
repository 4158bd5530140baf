"""Receipts that are recorded over HTTP: the twins and PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.errors import Invalid, NotFound
from domain.watermarks import DEVICES_PER_MEMBER
from schemas.codec import decode
from schemas.events import ReceiptRecorded
from schemas.ids import new_id
from tests import make
from tests.contract.reads.conftest import World


def receipt(world: World, delivered: int, read: int = 0, user: str = "bob", **more: Any) -> ReceiptRecorded:
    fields = {"conversation_id": world.room, "user_id": user, "delivered_seq": delivered, "read_seq": read}
    return ReceiptRecorded(at=make.AT, **{**fields, **more})


async def owed_receipts(world: World) -> list[ReceiptRecorded]:
    rows = [row for row in await world.owed() if row.topic == ReceiptRecorded.TOPIC]
    events = [decode(row.topic, row.conversation_id.encode(), row.value) for row in rows]
    assert len({(row.seq, row.part) for row in rows}) == len(rows)
    return sorted((e for e in events if isinstance(e, ReceiptRecorded)), key=lambda e: (e.user_id, e.device))


async def publish_owed(world: World) -> None:
    async with world.open_outbox() as outbox:
        await outbox.claim()
        await outbox.mark(await outbox.unpublished(1000), {})


async def test_receipts_are_owed_to_kafka_one_for_each_device_with_all_that_it_has_reached(world):
    await world.send()
    await world.send()
    for one in (
        receipt(world, 2),
        receipt(world, 2, device="phone"),
        receipt(world, 1, 1),
        receipt(world, 2, user="carol"),
        receipt(world, 1),
        receipt(world, 2),
    ):
        await world.receipts.record(one)
    assert [(e.user_id, e.device, e.delivered_seq, e.read_seq) for e in await owed_receipts(world)] == [
        ("bob", "-", 2, 1),
        ("bob", "phone", 2, 0),
        ("carol", "-", 2, 0),
    ]


async def test_invented_devices_owe_no_more_than_a_member_may_have_and_lose_no_watermark(world):
    for _ in range(3):
        await world.send()
    for number in range(200):
        await world.receipts.record(receipt(world, 3 if number == 7 else 1, device=f"invented-{number}"))
    owed = await owed_receipts(world)
    assert 0 < len(owed) <= DEVICES_PER_MEMBER
    assert max(e.delivered_seq for e in owed) == 3
    await publish_owed(world)
    for number in range(200, 400):
        await world.receipts.record(receipt(world, 1, device=f"invented-{number}"))
    assert len(await owed_receipts(world)) <= DEVICES_PER_MEMBER


async def test_parallel_receipts_of_a_device_become_one_with_the_furthest(world):
    for _ in range(20):
        await world.send()
    seqs = [*range(1, 21)] * 2
    await asyncio.gather(*(world.receipts.record(receipt(world, seq, seq // 2)) for seq in seqs))
    assert [(e.delivered_seq, e.read_seq) for e in await owed_receipts(world)] == [(20, 10)]


async def test_a_receipt_that_takes_the_place_of_one_under_way_is_not_marked_with_it(world):
    await world.send()
    await world.send()
    await world.receipts.record(receipt(world, 1))
    async with world.open_outbox() as outbox:
        await outbox.claim()
        under_way = await outbox.unpublished(1000)
        await world.receipts.record(receipt(world, 2))
        await outbox.mark(under_way, {})
    assert [e.delivered_seq for e in await owed_receipts(world)] == [2]


async def test_a_receipt_that_was_published_is_owed_again_when_it_is_recorded_again(world):
    await world.send()
    await world.receipts.record(receipt(world, 1))
    await publish_owed(world)
    assert await world.owed() == []
    await world.receipts.record(receipt(world, 1))
    assert [row.topic for row in await world.owed()] == ["receipt.recorded"]


async def test_a_receipt_is_refused_to_strangers_and_beyond_the_head(world):
    await world.send()
    for refused in (receipt(world, 1, user="eve"), receipt(world, 1, conversation_id=new_id())):
        with pytest.raises(NotFound):
            await world.receipts.record(refused)
    with pytest.raises(NotFound):
        await world.receipts.record(receipt(world, 1, conversation_id="nonsense"))
    with pytest.raises(Invalid, match="at most 1"):
        await world.receipts.record(receipt(world, 2))
    assert [row for row in await world.owed() if row.topic == "receipt.recorded"] == []
