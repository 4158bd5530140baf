"""Ports of the stages, as twins and in PostgreSQL, with a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory.effects import MemoryCounts, MemoryNotifications, MemoryStatuses
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.media import MemoryMedia
from adapters.memory.notifications import MemoryInbox
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import open_pool
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from domain.analytics import Counts
from domain.notifications import Inbox, Notifications
from domain.search import Index
from domain.watermarks import Statuses, Watermark, WatermarkAdvance
from schemas.ids import new_id
from schemas.messages import Message
from tests import make


@dataclass
class World:
    room: str
    intake: Any
    statuses: Statuses
    notifications: Notifications
    counts: Counts
    index: Index
    media: Any
    inbox: Inbox
    status_of: Any
    devices_of: Any
    lose_the_log: Any
    """Note that the log has lost records; returns its new epoch."""

    async def devices(self, user: str = "bob") -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = await self.devices_of(user)
        return found

    async def send(self, content: str = "hi", sender: str = "alice") -> Message:
        [outcome] = await self.intake.accept([make.draft(content, conversationId=self.room, sender=sender)])
        return outcome.message

    async def fold(self, user: str, delivered: int, read: int = 0, everybody: int = 32) -> list[WatermarkAdvance]:
        moved = await self.statuses.advance([Watermark(self.room, user, delivered, read)], everybody)
        return list(moved.advances)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    room = new_id()
    if request.param == "memory":
        tables = Tables()
        notifications = MemoryNotifications(tables)
        await MemoryConversations(tables).create(room, None, "alice", ["bob", "carol"])

        async def status_in_memory(id_: str) -> str:
            return tables.messages[id_].status

        async def devices_in_memory(user: str) -> dict[str, tuple[int, int]]:
            return {device: seqs for (_, who, device), seqs in tables.device_receipts.items() if who == user}

        async def lose_in_memory() -> int:
            tables.epoch += 1
            return tables.epoch

        yield World(
            room,
            MemoryIntake(tables),
            MemoryStatuses(tables),
            notifications,
            MemoryCounts(),
            MemorySearch(tables),
            MemoryMedia(tables),
            MemoryInbox(notifications),
            status_in_memory,
            devices_in_memory,
            lose_in_memory,
        )
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        await PostgresConversations(pool).create(room, None, "alice", ["bob", "carol"])

        async def status_in_store(id_: str) -> str:
            message = await PostgresMessages(pool).one(id_, "alice")
            assert message is not None
            return message.status

        async def devices_in_store(user: str) -> dict[str, tuple[int, int]]:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "SELECT device, delivered_seq, read_seq FROM device_receipts"
                    " WHERE conversation_id = %s AND user_id = %s",
                    (room, user),
                )
                return {device: (delivered, read) for device, delivered, read in await cursor.fetchall()}

        async def lose_in_store() -> int:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "INSERT INTO log_state AS s (cluster_id, replication, epoch) VALUES ('c', 1, 1)"
                    " ON CONFLICT (id) DO UPDATE SET epoch = s.epoch + 1 RETURNING epoch"
                )
                [(epoch,)] = await cursor.fetchall()
                return int(epoch)

        yield World(
            room,
            PostgresIntake(pool),
            PostgresStatuses(pool),
            PostgresNotifications(pool),
            PostgresCounts(pool),
            PostgresSearch(pool),
            PostgresMedia(pool),
            PostgresNotifications(pool),
            status_in_store,
            devices_in_store,
            lose_in_store,
        )
