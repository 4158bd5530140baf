"""Receipts that are stored for a device, as a join tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.memory.effects import MemoryStatuses
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import open_pool
from adapters.postgres.statuses import PostgresStatuses
from domain.watermarks import Watermark
from schemas.ids import NO_DEVICE, new_id
from tests import make


@pytest.fixture(params=["memory", "postgres"])
async def ports(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, Any, Any, Any]]:
    """Conversations, intake, statuses and history on the same store."""
    if request.param == "memory":
        tables = Tables()
        yield MemoryConversations(tables), MemoryIntake(tables), MemoryStatuses(tables), MemoryHistory(tables)
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        yield PostgresConversations(pool), PostgresIntake(pool), PostgresStatuses(pool), PostgresHistory(pool)


async def test_a_device_has_its_own_and_who_names_none_has_those_of_the_member(ports):
    conversations, intake, statuses, history = ports
    room, other = new_id(), new_id()
    for each in (room, other):
        await conversations.create(each, None, "alice", ["bob"])
    await intake.accept([make.draft("hi", conversationId=room) for _ in range(5)])
    assert await history.reached(room, "bob", NO_DEVICE) == (0, 0)
    phone, desk = Watermark(room, "bob", 5, 1, "phone"), Watermark(room, "bob", 3, 3, "desk")
    await statuses.advance([phone, desk, Watermark(room, "bob", 2, 2)], 32)
    found = {device: await history.reached(room, "bob", device) for device in ("phone", "desk", "new", NO_DEVICE)}
    assert found == {"phone": (5, 1), "desk": (3, 3), "new": (0, 0), NO_DEVICE: (5, 3)}
    assert await history.reached(room, "alice", NO_DEVICE) == (0, 0)
    assert await history.reached(other, "bob", "phone") == (0, 0)
