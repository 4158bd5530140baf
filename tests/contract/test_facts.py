"""Facts behind records: the twin and PostgreSQL have the same, and no value of a record fails a query."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory.effects import MemoryNotifications, MemoryStatuses
from adapters.memory.facts import MemoryFacts
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.facts import PostgresFacts
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import open_pool
from adapters.postgres.statuses import PostgresStatuses
from domain.facts import Facts, Wanted
from domain.history import History
from domain.notifications import NotificationDraft, Notifications
from domain.watermarks import Statuses, Watermark
from schemas.ids import new_id
from schemas.messages import Message, Status
from tests import make


@dataclass
class World:
    room: str
    conversations: Any
    intake: Any
    statuses: Statuses
    notifications: Notifications
    facts: Facts
    history: History

    async def send(self) -> Message:
        [outcome] = await self.intake.accept([make.draft(conversationId=self.room)])
        return outcome.message


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    room = new_id()
    if request.param == "memory":
        tables = Tables()
        notifications = MemoryNotifications(tables)
        made = World(
            room,
            MemoryConversations(tables),
            MemoryIntake(tables),
            MemoryStatuses(tables),
            notifications,
            MemoryFacts(tables, notifications),
            MemoryHistory(tables),
        )
        await made.conversations.create(room, "The room", "alice", ["bob", "carol"])
        yield made
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        made = World(
            room,
            PostgresConversations(pool),
            PostgresIntake(pool),
            PostgresStatuses(pool),
            PostgresNotifications(pool),
            PostgresFacts(pool),
            PostgresHistory(pool),
        )
        await made.conversations.create(room, "The room", "alice", ["bob", "carol"])
        yield made


async def test_an_entry_is_what_a_replay_would_give(world):
    await world.send()
    await world.conversations.add(world.room, "dora", "alice")
    await world.statuses.mark_sent([await world.send()])
    found = await world.facts.find(Wanted(entries={(world.room, seq) for seq in range(6)}))
    replayed = await world.history.changes(world.room, 0, 9, 9)
    assert sorted(found.entries.values(), key=lambda change: change.seq) == replayed
    assert set(found.entries) == {(world.room, seq) for seq in (1, 2, 3)}


async def test_a_creation_has_the_members_of_now(world):
    await world.conversations.remove(world.room, "carol", "alice")
    found = await world.facts.find(Wanted(creations={world.room, new_id()}))
    assert set(found.creations) == {world.room}
    creation = found.creations[world.room]
    assert (creation.title, creation.user_id, creation.by, creation.seq) == ("The room", "alice", "alice", 0)
    assert creation.members == ("alice", "bob")


async def test_the_progress_of_members_and_of_nobody_else(world):
    message = await world.send()
    await world.statuses.advance([Watermark(world.room, "bob", 1, 1), Watermark(world.room, "carol", 1, 0)], 32)
    await world.conversations.remove(world.room, "carol", "alice")
    users = ("alice", "bob", "carol", "mallory")
    found = await world.facts.find(
        Wanted(members={(world.room, user) for user in users}, messages={message.message_id})
    )
    assert set(found.members) == {(world.room, "alice"), (world.room, "bob")}
    bob, alice = found.members[world.room, "bob"], found.members[world.room, "alice"]
    assert (bob.delivered_seq, bob.read_seq) == (1, 1)
    assert bob.delivered_at
    assert bob.read_at
    assert (alice.delivered_seq, alice.read_seq, alice.delivered_at, alice.read_at) == (0, 0, None, None)
    assert found.messages == {message.message_id: (world.room, Status.READ)}


async def test_a_notification_as_long_as_its_recipient_is_a_member(world):
    message = await world.send()
    stored = NotificationDraft(new_id(), message.message_id, world.room, 1, "bob")
    await world.notifications.add([stored])
    wanted = Wanted(notifications={stored.notification_id, new_id()})
    [found] = (await world.facts.find(wanted)).notifications.values()
    assert (found.user_id, found.message_id, found.seq, found.channel) == ("bob", message.message_id, 1, "in_app")
    await world.conversations.remove(world.room, "bob", "alice")
    assert (await world.facts.find(wanted)).notifications == {}


@pytest.mark.parametrize(
    "id_", ["", "x", "a\0b", "L" * 60_000, "\ud800", "{" + make.ROOM + "}", "01900000-0000-7000-8000-00000000000A"]
)
async def test_keys_that_nothing_can_have_are_missing_and_fail_nothing(world, id_):
    message = await world.send()
    places = {(id_, 1), (world.room, 0), (world.room, -1), (world.room, 2**63), (world.room, 2**70), (world.room, 1)}
    wanted = Wanted(places, {id_}, {(id_, "bob"), (world.room, id_), (world.room, "bob")}, {id_}, {id_})
    found = await world.facts.find(wanted)
    assert [change.message.message_id for change in found.entries.values()] == [message.message_id]
    assert (set(found.members), found.creations, found.messages) == ({(world.room, "bob")}, {}, {})
    assert (await world.facts.find(Wanted())).entries == {}
