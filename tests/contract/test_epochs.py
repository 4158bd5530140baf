"""Epochs of the store, and what it lacks: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.tables import Tables
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import open_pool
from domain.changes import created_event
from domain.conversations import Conversations
from domain.drafts import Intake
from domain.history import History
from domain.outbox import Outbox
from schemas.codec import decode
from schemas.ids import new_id
from tests import make


@dataclass
class Store:
    intake: Intake
    conversations: Conversations
    history: History
    outbox: Outbox
    restart: Callable[[], Awaitable[None]]
    """Make the store another server."""
    room: str

    async def say(self, count: int = 1) -> None:
        await self.intake.accept([make.draft(str(n), conversationId=self.room) for n in range(count)])

    async def epoch(self) -> str:
        return (await self.history.heads([])).epoch


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    room = new_id()
    if request.param == "memory":
        tables, number = Tables(), iter(range(2, 10))

        async def begin() -> None:
            tables.epochs.begin(f"{next(number)}-{new_id()}")

        made = Store(
            MemoryIntake(tables),
            MemoryConversations(tables),
            MemoryHistory(tables),
            MemoryOutbox(tables),
            begin,
            room,
        )
        await made.conversations.create(room, None, "alice", ["bob"])
        yield made
        return
    dsn = request.getfixturevalue("pg_dsn")

    async def pretend() -> None:
        """As a copy that is started: the server that has begun the latest epoch is another one."""
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            await conn.execute("UPDATE store_epochs SET server = id || ' before' WHERE server NOT LIKE '%% before'")
            await conn.execute("SELECT millrace_epoch()")

    async with open_pool(dsn) as pool, open_outbox(dsn) as outbox:
        conversations, history = PostgresConversations(pool), PostgresHistory(pool)
        await conversations.create(room, None, "alice", ["bob"])
        yield Store(PostgresIntake(pool), conversations, history, outbox, pretend, room)


async def test_an_epoch_shares_what_was_there_before_the_first_entry_of_the_next_one(store: Store):
    await store.say(3)
    first = await store.epoch()
    await store.restart()
    second = await store.epoch()
    assert first != second
    assert await store.history.shared(store.room, first) == 3  # nothing was appended yet
    await store.say(2)
    assert (await store.history.heads([store.room])).of(store.room) == 5
    assert await store.history.shared(store.room, first) == 3
    assert await store.history.shared(store.room, second) == 5
    await store.restart()
    await store.say()
    assert await store.history.shared(store.room, first) == 3
    assert await store.history.shared(store.room, second) == 5
    assert await store.history.shared(store.room, await store.epoch()) == 6


async def test_an_epoch_without_an_entry_takes_nothing_from_another(store: Store):
    await store.say(2)
    first = await store.epoch()
    for _ in range(3):
        await store.restart()
    await store.say()
    assert await store.history.shared(store.room, first) == 2


async def test_nothing_is_shared_with_an_unknown_epoch_or_a_conversation_that_is_not_there(store: Store):
    await store.say()
    assert await store.history.shared(store.room, "77-unknown") == 0
    assert await store.history.shared(new_id(), await store.epoch()) == 0


async def test_the_store_has_what_it_has_published_and_lacks_what_others_have(store: Store):
    await store.outbox.claim()
    await store.say(2)
    await store.conversations.add(store.room, "carol", by="alice")
    owed = [row for row in await store.outbox.unpublished(10_000) if row.conversation_id == store.room]
    mine: list[Any] = [decode(row.topic, row.conversation_id.encode(), row.value) for row in owed]
    assert len(mine) == 4
    assert await store.outbox.first_lacking(mine) is None
    assert await store.outbox.first_lacking([]) is None
    other_time = make.member_added(3, conversation_id=store.room)
    elsewhere = created_event(new_id(), None, "alice", ("alice",), make.AT)
    for foreign in (make.created(conversation_id=store.room, seq=2), elsewhere, other_time):
        assert await store.outbox.first_lacking([*mine, foreign, *mine, foreign]) == 4
