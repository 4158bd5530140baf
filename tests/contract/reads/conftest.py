"""Ports behind the HTTP calls, as twins and in PostgreSQL, with a conversation of alice, bob and carol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import pytest

from adapters.memory.analytics import MemoryMinuteCounts
from adapters.memory.effects import MemoryCounts, MemoryNotifications, MemoryStatuses
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryMessages, MemoryReceipts
from adapters.memory.notifications import MemoryInbox
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.receipts import PostgresReceipts
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from domain.analytics import Counts, MinuteCounts
from domain.conversations import Conversations
from domain.drafts import Intake
from domain.media import MediaFiles, Uploads
from domain.messages import Messages
from domain.notifications import Inbox, Notifications
from domain.outbox import Outbox, Owed
from domain.receipts import Receipts
from domain.search import Index, Query, Search
from domain.terms import parse
from domain.watermarks import Statuses
from schemas.ids import new_id
from schemas.messages import Message
from tests import make


class Files(MediaFiles, Uploads, Protocol):
    """Uploads, as the stage and the calls see them."""


@dataclass
class World:
    room: str
    intake: Intake
    conversations: Conversations
    statuses: Statuses
    messages: Messages
    receipts: Receipts
    open_outbox: Any
    index: Index
    search: Search
    notifications: Notifications
    inbox: Inbox
    counts: Counts
    minutes: MinuteCounts
    media: Files
    make_older: Callable[[str, float], Awaitable[None]]
    """Sets the completion of an upload back by so many seconds."""

    async def send(self, content: str = "hi", sender: str = "alice", **more: Any) -> Message:
        [outcome] = await self.intake.accept([make.draft(content, conversationId=self.room, sender=sender, **more)])
        message: Message = outcome.message
        return message

    async def find(self, text: str, user: str = "bob", **bounds: Any) -> list[Message]:
        """Return the messages that the query finds, newest first."""
        query = Query(terms=parse(text), **{"conversation_id": self.room, **bounds})
        return list(await self.search.search(user, query, limit=50))

    async def say(self, *contents: str) -> list[Message]:
        """Send messages of these contents, and index them."""
        messages = [await self.send(content) for content in contents]
        await self.index.refresh([message.message_id for message in messages])
        return messages

    async def owed(self, key: str | None = None) -> list[Owed]:
        opened: AbstractAsyncContextManager[Outbox] = self.open_outbox()
        async with opened as outbox:
            await outbox.claim()
            return [row for row in await outbox.unpublished(1000) if row.conversation_id == (key or self.room)]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with memory() if request.param == "memory" else postgres(request.getfixturevalue("pg_dsn")) as made:
        await made.conversations.create(made.room, None, "alice", ["bob", "carol"])
        yield made


@asynccontextmanager
async def memory() -> AsyncIterator[World]:
    tables = Tables()
    search, notifications, counts = MemorySearch(tables), MemoryNotifications(tables), MemoryCounts()

    @asynccontextmanager
    async def outbox() -> AsyncIterator[Outbox]:
        yield MemoryOutbox(tables)

    media = MemoryMedia(tables)

    async def older(media_id: str, by_s: float) -> None:
        media.complete_at[media_id] -= timedelta(seconds=by_s)

    yield World(
        room=new_id(),
        intake=MemoryIntake(tables),
        conversations=MemoryConversations(tables),
        statuses=MemoryStatuses(tables),
        messages=MemoryMessages(tables),
        receipts=MemoryReceipts(tables),
        open_outbox=outbox,
        index=search,
        search=search,
        notifications=notifications,
        inbox=MemoryInbox(notifications),
        counts=counts,
        minutes=MemoryMinuteCounts(counts),
        media=media,
        make_older=older,
    )


@asynccontextmanager
async def postgres(dsn: str) -> AsyncIterator[World]:
    async with open_pool(dsn) as pool:
        search, notifications, counts = PostgresSearch(pool), PostgresNotifications(pool), PostgresCounts(pool)
        yield World(
            room=new_id(),
            intake=PostgresIntake(pool),
            conversations=PostgresConversations(pool),
            statuses=PostgresStatuses(pool),
            messages=PostgresMessages(pool),
            receipts=PostgresReceipts(pool),
            open_outbox=lambda: open_outbox(dsn),
            index=search,
            search=search,
            notifications=notifications,
            inbox=notifications,
            counts=counts,
            minutes=counts,
            media=PostgresMedia(pool),
            make_older=partial(_older, pool),
        )


async def _older(pool: Pool, media_id: str, by_s: float) -> None:
    async with pool.connection() as conn:
        query = "UPDATE media SET created_at = created_at - make_interval(secs => %s) WHERE media_id = %s"
        await conn.execute(query, (by_s, media_id))
