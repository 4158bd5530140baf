"""Messages and counts as members read them: the twins and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.analytics import MinuteCount
from domain.watermarks import Watermark
from schemas.ids import new_id
from schemas.messages import Message


@pytest.mark.parametrize(
    ("after", "before", "limit", "seqs"),
    [
        (None, None, 10, [1, 2, 3, 5, 6]),
        (None, None, 2, [5, 6]),
        (None, 5, 2, [2, 3]),
        (0, None, 2, [1, 2]),
        (3, None, 10, [5, 6]),
        (1, 5, 10, [2, 3]),
        (6, None, 10, []),
        (None, 1, 10, []),
    ],
)
async def test_a_page_holds_messages_between_two_seqs_ascending(world, after, before, limit, seqs):
    for number in range(3):
        await world.send(str(number))
    await world.conversations.add(world.room, "dave", by="alice")
    for number in range(2):
        await world.send(str(number))
    assert [m.seq for m in await world.messages.page(world.room, after, before, limit)] == seqs


async def test_a_message_is_read_by_members_only(world):
    message = await world.send("Zoë")
    assert await world.messages.one(message.message_id, "bob") == message
    assert await world.messages.one(message.message_id, "eve") is None
    assert await world.messages.one(new_id(), "bob") is None
    assert await world.messages.one("nonsense", "bob") is None
    await world.conversations.remove(world.room, "bob", by="alice")
    assert await world.messages.one(message.message_id, "bob") is None


async def test_each_other_member_has_a_receipt_of_a_message(world):
    first, second = await world.send(), await world.send()
    await world.statuses.advance([Watermark(world.room, "bob", 2, 1), Watermark(world.room, "carol", 1, 0)], 32)

    async def receipts(message: Message) -> list[tuple[str, str, bool, bool]]:
        found = await world.messages.receipts(message.message_id)
        return [(r.user_id, r.status, r.delivered_at is not None, r.read_at is not None) for r in found]

    assert await receipts(first) == [("bob", "read", True, True), ("carol", "delivered", True, False)]
    assert await receipts(second) == [("bob", "delivered", True, False), ("carol", "sent", False, False)]
    assert await world.messages.receipts(new_id()) == []


async def test_counts_are_read_by_minute_newest_first_within_bounds(world):
    def tick(seq: int, minute: int) -> MinuteCount:
        return MinuteCount(world.room, seq, f"2026-11-24T15:0{minute}:00.000Z")

    await world.counts.add([tick(1, 0), tick(2, 0), tick(3, 1), tick(4, 3)])
    start = datetime(2026, 11, 24, 15, tzinfo=UTC)

    async def minutes(*bounds: int | None, limit: int = 10) -> list[tuple[int, int]]:
        times = [None if bound is None else start + timedelta(minutes=bound) for bound in bounds]
        rows = await world.minutes.minutes(world.room, *times, limit)
        return [(int((at - start).total_seconds()) // 60, count) for at, count in rows]

    assert await minutes(None, None) == [(3, 1), (1, 1), (0, 2)]
    assert await minutes(None, None, limit=2) == [(3, 1), (1, 1)]
    assert await minutes(1, 3) == [(1, 1)]
    assert await world.minutes.minutes(new_id(), None, None, 10) == []
