"""Intake of plain drafts in one round trip: the twin and PostgreSQL store the same, and leave the same undecided."""

from __future__ import annotations

import asyncio

import psycopg

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import Pool, open_pool
from domain.drafts import Accepted
from schemas.codec import decode, encode
from schemas.events import MessageCreated
from schemas.ids import new_id
from tests import make


async def test_plain_drafts_are_stored_as_all_others_are(world):
    key = new_id()
    first, second = await world.intake.accept_plain([world.draft("a", key=key), world.draft("b", sender="bob")])
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    [third] = await world.intake.accept([world.draft("c")])
    assert [outcome.message.seq for outcome in (first, second, third)] == [1, 2, 3]
    assert not first.replayed
    changes = await world.history.changes(world.room, 0, 100, 100)
    assert [change.message for change in changes] == [outcome.message for outcome in (first, second, third)]
    [again] = await world.intake.accept([world.draft("a", key=key)])
    assert (again.replayed, again.message) == (True, first.message)
    mine = {each.conversation_id: each for each in await world.conversations.mine("bob", None, 50)}
    assert (mine[world.room].unread, mine[world.room].head_seq) == (1, 3), "who writes has seen what was said before"
    assert mine[world.room].last_message == third.message


async def test_what_must_be_decided_is_left_out_and_takes_no_seq(world):
    other, key = new_id(), new_id()
    await world.intake.accept_plain([world.draft("known", key=key)])
    await world.conversations.create(other, None, "alice", [])
    drafts = [
        *(world.draft("a"), world.draft(key=key), world.draft("c", sender="eve"), make.draft(conversationId=new_id())),
        *(make.draft("e", conversationId=other), world.draft("f", sender="bob")),
    ]
    outcomes = await world.intake.accept_plain(drafts)
    assert [outcome and outcome.message.seq for outcome in outcomes] == [2, None, None, None, 1, 3]
    assert (await world.history.heads([world.room, other])).seqs == {world.room: 3, other: 1}


async def test_a_held_conversation_is_left_out_and_holds_up_no_other(world):
    other = new_id()
    await world.conversations.create(other, None, "alice", [])
    async with world.hold(world.room):
        outcomes = await world.intake.accept_plain([world.draft(), make.draft(conversationId=other)])
    assert [outcome and outcome.message.seq for outcome in outcomes] == [None, 1]
    assert (await world.history.heads([world.room])).of(world.room) == 0


async def test_the_event_of_a_message_is_that_of_its_acceptance_whatever_its_status_is(world):
    draft = world.draft('x\n\u2028"é🙂', key=(key := new_id()))
    [stored] = await world.intake.accept_plain([draft])
    async with world.open_outbox() as outbox:
        await outbox.claim()
        [owed] = [row for row in await outbox.unpublished(1000) if (row.conversation_id, row.seq) == (world.room, 1)]
        await outbox.mark([owed], {})
    event = decode(owed.topic, world.room.encode(), owed.value)
    assert event == MessageCreated(message=stored.message, client_message_id=key, body_hash=draft.body_hash.hex())
    assert owed.value == encode(event)
    assert owed.event_id == draft.message_id


async def test_of_two_that_store_the_same_key_at_once_the_second_is_decided_later(pool: Pool):
    """The same key in two conversations, whose locks do not meet."""
    rooms = [new_id(), new_id()]
    for room in rooms:
        await PostgresConversations(pool).create(room, None, "alice", [])
    intake = PostgresIntake(pool)
    for _ in range(10):
        key = new_id()
        drafts = [make.draft(conversationId=room, key=key) for room in rooms]
        outcomes = await asyncio.gather(*(intake.accept_plain([draft]) for draft in drafts))
        stored = [outcome for [outcome] in outcomes if outcome is not None]
        assert len(stored) == 1


SCANNED = "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname = ANY(%s)"
TABLES = ["messages", "members", "conversations"]


async def test_storing_costs_the_same_before_the_tables_are_analysed(pg_dsn: str):
    """From a table that is small when plans are made to one of 20,000 rows, no statement reads any table whole."""
    with psycopg.connect(pg_dsn, autocommit=True) as conn:
        for table in TABLES:
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        async with open_pool(pg_dsn, size=1) as pool:
            room, intake = new_id(), PostgresIntake(pool)
            await PostgresConversations(pool).create(room, None, "alice", [])

            async def read_whole() -> dict[str, int]:
                async with pool.connection() as mine:
                    await mine.execute("SELECT pg_stat_force_next_flush()")
                return dict(conn.execute(SCANNED, [TABLES]).fetchall())

            before = await read_whole()
            for _ in range(100):
                drafts = [make.draft(conversationId=room, key=new_id()) for _ in range(199)]
                assert None not in await intake.accept_plain(drafts)
            assert await read_whole() == before
            for _ in range(20):
                assert await intake.accept([make.draft(conversationId=room, key=new_id())])
            assert (await read_whole())["messages"] == before["messages"]
            async with open_outbox(pg_dsn) as outbox:
                await outbox.claim()
                while rows := await outbox.unpublished(1000):
                    await outbox.mark(rows, {})
