"""Intake, conversations, history and outbox of one room: the twin and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.tables import Tables
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import open_pool, transaction
from domain.conversations import Conversations
from domain.drafts import Intake
from domain.history import History
from domain.outbox import Outbox
from schemas.ids import new_id
from tests import make


@dataclass
class World:
    intake: Intake
    conversations: Conversations
    history: History
    open_outbox: Any
    hold: Any
    """Hold a conversation, as another process does."""
    room: str

    def draft(self, content: str = "hi", **more: Any) -> Any:
        return make.draft(content, conversationId=self.room, **more)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    room = new_id()
    if request.param == "memory":
        tables = Tables()

        @asynccontextmanager
        async def memory_outbox() -> AsyncIterator[Outbox]:
            yield MemoryOutbox(tables)

        intake = MemoryIntake(tables)

        @asynccontextmanager
        async def hold(conversation_id: str) -> AsyncIterator[None]:
            intake.locked.add(conversation_id)
            yield
            intake.locked.remove(conversation_id)

        made = World(intake, MemoryConversations(tables), MemoryHistory(tables), memory_outbox, hold, room)
        await made.conversations.create(room, "Room", "alice", ["bob"])
        yield made
        return
    dsn = request.getfixturevalue("pg_dsn")
    async with open_pool(dsn, lock_s=0.2) as pool:

        @asynccontextmanager
        async def locked(conversation_id: str) -> AsyncIterator[None]:
            async with transaction(pool) as conn:
                await conn.execute(
                    "SELECT 1 FROM conversations WHERE conversation_id = %s FOR UPDATE", [conversation_id]
                )
                yield

        made = World(
            PostgresIntake(pool),
            PostgresConversations(pool),
            PostgresHistory(pool),
            lambda: open_outbox(dsn),
            locked,
            room,
        )
        await made.conversations.create(room, "Room", "alice", ["bob"])
        yield made
