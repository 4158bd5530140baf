"""Recovery of a store that went back in time from its log: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, LiteralString

import psycopg
import pytest

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.recovery import MemoryRecovery
from adapters.memory.tables import Tables
from adapters.postgres import rows
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import open_pool
from adapters.postgres.recovery import open_recovery
from domain.conversations import Conversations
from domain.drafts import Accepted, Intake
from domain.errors import IdempotencyMismatch
from domain.history import History
from domain.log_position import Position
from domain.recovery import Recovery, Restored
from schemas.codec import decode
from schemas.ids import new_id
from schemas.messages import ChangeKind
from tests import make

Step = Callable[[], Awaitable[None]]


@dataclass
class Store:
    intake: Intake
    conversations: Conversations
    history: History
    recovery: Recovery
    read_outbox: Callable[[], Awaitable[list[Any]]]
    """The events of the room, as the log gets them."""
    save: Step
    go_back: Step
    room: str = field(default_factory=new_id)

    async def say(self, *contents: str, sender: str = "alice", key: str | None = None) -> list[Any]:
        drafts = [make.draft(text, sender=sender, key=key, conversationId=self.room) for text in contents]
        return list(await self.intake.accept(drafts))

    async def contents(self) -> list[str]:
        """The conversation: the content of each message, the kind of each other entry."""
        changes = await self.history.changes(self.room, 0, 1_000, 1_000)
        assert [change.seq for change in changes] == list(range(1, len(changes) + 1))
        return [change.kind if change.message is None else change.message.content for change in changes]

    async def recover(self, events: list[Any], *, dry_run: bool = False) -> Restored:
        await self.recovery.begin()
        await self.recovery.keep(events)
        total = Restored()
        for conversation in await self.recovery.lacking():
            total += await self.recovery.put_back(conversation, dry_run=dry_run)
        return total


def in_memory() -> Store:
    tables, saved = Tables(), list[Tables]()

    async def save() -> None:
        saved.append(deepcopy(tables))

    async def go_back() -> None:
        for each in fields(Tables):
            setattr(tables, each.name, getattr(deepcopy(saved[-1]), each.name))
        tables.epochs.begin(f"2-{new_id()}")

    async def read() -> list[Any]:
        outbox = MemoryOutbox(tables)
        await outbox.claim()
        owed = await outbox.unpublished(10_000)
        return [decode(row.topic, row.conversation_id.encode(), row.value) for row in owed]

    conversations, history = MemoryConversations(tables), MemoryHistory(tables)
    return Store(MemoryIntake(tables), conversations, history, MemoryRecovery(tables), read, save, go_back)


MESSAGES: LiteralString = (
    f"SELECT {rows.MESSAGE_COLUMNS}, m.client_message_id, m.body_hash FROM messages m"
    " WHERE m.conversation_id = %(room)s"
)
TABLES = ("messages", "changes", "outbox", "members", "former_members", "invitations", "epoch_starts")


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        made = in_memory()
        await made.conversations.create(made.room, "Room", "alice", ["bob"])
        yield made
        return
    dsn = request.getfixturevalue("pg_dsn")
    room = new_id()

    async def run(*statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            for statement in statements:
                await conn.execute(statement, {"room": room})

    async def save() -> None:
        copies = [f"DROP TABLE IF EXISTS saved_{name}" for name in (*TABLES, "conversations")]
        wanted = [
            f"CREATE TABLE saved_{name} AS SELECT * FROM {name} WHERE conversation_id = %(room)s"
            for name in (*TABLES, "conversations")
        ]
        await run(*copies, *wanted)

    async def go_back() -> None:
        """The room as it was: its rows are those of the copy, and the server is another one."""
        columns = "INSERT INTO {0} OVERRIDING SYSTEM VALUE SELECT * FROM saved_{0}"
        await run(
            *(f"DELETE FROM {name} WHERE conversation_id = %(room)s" for name in (*TABLES, "conversations")),
            *(columns.format(name) for name in ("conversations", *TABLES)),
            "UPDATE store_epochs SET server = id || ' before' WHERE server NOT LIKE '%% before'",
            "SELECT millrace_epoch()",
        )

    async def read() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            made = await conn.execute(MESSAGES, {"room": room})
            messages = {event.seq: event for event in map(rows.created, await made.fetchall())}
            found = await conn.execute(
                "SELECT topic, value, seq FROM outbox WHERE conversation_id = %s ORDER BY seq, part", [room]
            )
            owed = await found.fetchall()
            return [
                messages[seq] if value is None else decode(topic, room.encode(), value) for topic, value, seq in owed
            ]

    async with open_pool(dsn) as pool, open_recovery(dsn) as recovery:
        conversations, history = PostgresConversations(pool), PostgresHistory(pool)
        made = Store(PostgresIntake(pool), conversations, history, recovery, read, save, go_back, room)
        await conversations.create(room, "Room", "alice", ["bob"])
        yield made
        await run(*(f"DROP TABLE IF EXISTS saved_{name}" for name in (*TABLES, "conversations")))


async def test_what_was_published_comes_back_as_it_was_and_once(store: Store):
    await store.say("kept")
    await store.save()
    [lost] = await store.say("lost", key=f"k-{store.room}")
    await store.conversations.add(store.room, "carol", by="alice")
    await store.say("by carol", sender="carol")
    before = (await store.history.heads([])).epoch
    events = await store.read_outbox()
    await store.go_back()
    assert await store.contents() == ["kept"]
    restored = Restored(messages=2, members=1)
    assert await store.recover(events, dry_run=True) == restored
    assert await store.contents() == ["kept"]
    assert await store.recover(events) == restored
    assert await store.contents() == ["kept", "lost", "member_added", "by carol"]
    assert await store.history.members(store.room) == ["alice", "bob", "carol"]
    assert await store.recover(events) == Restored()
    # All of it is as it was, so a cursor of before holds.
    assert await store.history.shared(store.room, before) == 4
    [again] = await store.say("lost", key=f"k-{store.room}")
    assert isinstance(again, Accepted)
    assert (again.replayed, again.message.message_id, again.message.seq) == (True, lost.message.message_id, 2)
    [other] = await store.say("other", key=f"k-{store.room}")
    assert isinstance(other, IdempotencyMismatch)
    assert (await store.say("next"))[0].message.seq == 5


async def test_what_comes_back_is_owed_again(store: Store):
    await store.save()
    await store.say("lost")
    events = await store.read_outbox()
    await store.go_back()
    await store.recover(events)
    assert await store.read_outbox() == events


async def test_what_was_accepted_since_stays_and_what_comes_back_follows(store: Store):
    await store.say("kept")
    await store.save()
    await store.say("lost 1", "lost 2")
    before, events = (await store.history.heads([])).epoch, await store.read_outbox()
    await store.go_back()
    await store.say("since")
    assert await store.recover(events) == Restored(messages=2, moved=1)
    assert await store.contents() == ["kept", "since", "lost 2", "lost 1"]
    assert await store.history.shared(store.room, before) == 1
    assert await store.recover(events) == Restored()


async def test_a_message_that_was_sent_again_since_does_not_come_back(store: Store):
    await store.save()
    key = f"k-{store.room}"
    await store.say("hello", key=key)
    events = await store.read_outbox()
    await store.go_back()
    await store.say("hello", key=key)
    assert await store.recover(events) == Restored(resent=1)
    assert await store.contents() == ["hello"]


async def test_an_entry_that_is_in_no_log_leaves_a_mark(store: Store):
    await store.save()
    await store.say("one", "never published", "three")
    before = (await store.history.heads([])).epoch
    events = [event for event in await store.read_outbox() if event.seq != 2]
    await store.go_back()
    assert await store.recover(events) == Restored(messages=2, lost=1)
    assert await store.contents() == ["one", ChangeKind.LOST, "three"]
    assert await store.history.shared(store.room, before) == 1


async def test_a_removed_member_is_none_again_and_an_invitation_open(store: Store):
    await store.save()
    await store.conversations.remove(store.room, "bob", by="alice")
    events = await store.read_outbox()
    await store.go_back()
    assert await store.history.members(store.room) == ["alice", "bob"]
    assert await store.recover(events) == Restored(members=1)
    assert await store.history.members(store.room) == ["alice"]


async def test_a_conversation_that_the_log_has_created_comes_back_whole(store: Store):
    await store.say("one", "two")
    events = await store.read_outbox()
    room = new_id()
    moved = [make.elsewhere(event, room) for event in events]
    assert await store.recover(moved) == Restored(created=1, messages=2)
    store.room = room
    assert await store.contents() == ["one", "two"]
    assert await store.history.members(room) == ["alice", "bob"]
    assert await store.recover(moved) == Restored()


async def test_events_of_a_conversation_that_nobody_has_are_gone(store: Store):
    assert await store.recover([make.created(conversation_id=new_id())]) == Restored(gone=1)


async def test_a_lost_epoch_shares_what_the_store_had_before_it(store: Store):
    await store.say("kept")
    await store.save()
    await store.say("lost")
    events = await store.read_outbox()
    await store.go_back()
    lost = f"7-{new_id()}"
    assert await store.history.shared(store.room, lost) == 0
    await store.say("since")
    await store.recover(events)
    span = await store.recovery.span()
    assert span is not None
    noted = await store.recovery.noted()
    position = Position(cluster_id=noted[0] if noted else "log", replication=1, ends={})
    await store.recovery.note(position, [lost], span[0])
    assert await store.history.shared(store.room, lost) == 1
