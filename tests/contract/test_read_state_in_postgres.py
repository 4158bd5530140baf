"""Read state in PostgreSQL alone: an inbox under concurrent commits, and the counts of a store that had none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg

import adapters.postgres
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import Pool, transaction
from adapters.postgres.statements import load
from adapters.postgres.statuses import PostgresStatuses
from domain.notifications import NotificationDraft
from domain.watermarks import Watermark
from schemas.ids import new_id
from schemas.messages import Message
from tests import make

MIGRATIONS = Path(adapters.postgres.__file__).parent / "migrations"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def room_of(pool: Pool, *members: str) -> str:
    """A conversation that alice owns."""
    room = new_id()
    await PostgresConversations(pool).create(room, None, "alice", members)
    return room


async def say(pool: Pool, room: str, sender: str = "alice") -> Message:
    [outcome] = await PostgresIntake(pool).accept([make.draft(conversationId=room, sender=sender)], wait=True)
    message: Message = outcome.message
    return message


def draft_for(message: Message, user: str) -> NotificationDraft:
    return NotificationDraft(new_id(), message.message_id, message.conversation_id, message.seq, user)


async def ids_of(pool: Pool, user: str, *, unseen: bool = False) -> list[str]:
    """A user's notifications, newest first."""
    found = await PostgresNotifications(pool).page(user, unseen=unseen, before=None, limit=50)
    return [notification.notification_id for notification in found]


def columns_of(draft: NotificationDraft, *collapsed: str) -> dict[str, list[Any]]:
    """The parameters of the statements that add one notification."""
    return {
        "ids": [draft.notification_id],
        "users": [draft.user_id],
        "conversations": [draft.conversation_id],
        "messages": [draft.message_id],
        "seqs": [draft.seq],
        "channels": ["in_app"],
        "collapsed": list(collapsed),
    }


async def until_one_waits(pool: Pool) -> None:
    """Return when a connection waits for a lock that another one holds."""
    async with pool.connection() as watcher, asyncio.timeout(10):
        while await (await watcher.execute(WAITING)).fetchone() != (1,):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_commits_late_is_newer_than_all_that_was_shown_before(pool: Pool):
    """Of two workers, one has begun and stands still: the other waits for its commit, and comes behind it."""
    store, room = PostgresNotifications(pool), await room_of(pool, "bob", "carol")
    first, second = draft_for(await say(pool, room), "bob"), draft_for(await say(pool, room), "bob")
    async with transaction(pool) as slow:
        await slow.execute(load("notifications")["add"], columns_of(first))
        other = asyncio.create_task(store.add([second]))
        await until_one_waits(pool)
        assert await ids_of(pool, "bob") == [], "nobody was shown the second before the first"
        await store.add([draft_for(await say(pool, room), "carol")])  # who is not concerned does not wait
    await other
    assert await ids_of(pool, "bob") == [second.notification_id, first.notification_id]
    await store.mark_seen("bob", first.notification_id)
    assert await ids_of(pool, "bob", unseen=True) == [second.notification_id]


async def test_of_two_that_notify_a_large_conversation_the_second_sees_what_the_first_has_added(pool: Pool):
    """The lanes and the worker for deferred messages have both looked before either has added."""
    store, room = PostgresNotifications(pool), await room_of(pool, "ned", "olga")
    first, second = await say(pool, room), await say(pool, room)
    of_ned = draft_for(first, "ned")
    async with transaction(pool) as slow:
        for name in ("lock_collapsed", "add"):
            await slow.execute(load("notifications")[name], columns_of(of_ned, room))
        other = asyncio.create_task(store.add([draft_for(second, user) for user in ("ned", "olga")], [room]))
        await until_one_waits(pool)
    await other
    assert await ids_of(pool, "ned") == [of_ned.notification_id]
    assert len(await ids_of(pool, "olga")) == 1
    await PostgresStatuses(pool).advance([Watermark(room, "ned", 1, 0)], 32)
    await store.add([draft_for(second, user) for user in ("ned", "olga")], [room])
    assert (len(await ids_of(pool, "ned")), len(await ids_of(pool, "olga"))) == (2, 1)


async def test_a_receipt_and_a_device_that_close_the_same_notifications_do_not_wait_in_a_circle(pool: Pool):
    store, room = PostgresNotifications(pool), await room_of(pool, "dora")
    drafts = [draft_for(await say(pool, room), "dora") for _ in range(3)]
    await store.add(drafts)
    async with transaction(pool) as device:
        await device.execute(load("notifications")["mark_seen"], {"user_id": "dora", "number": 2})
        moved = await PostgresStatuses(pool).advance([Watermark(room, "dora", 3, 3)], 32)
        assert [advance.read_seq for advance in moved.advances] == [3, 3]
    assert await ids_of(pool, "dora", unseen=True) == []


STATE = {
    "conversations": "SELECT conversation_id, message_count FROM conversations ORDER BY 1",
    "members": "SELECT conversation_id, user_id, seen_seq, seen_count FROM members ORDER BY 1, 2",
    "receipts": "SELECT conversation_id, user_id, read_seq, read_count FROM receipts ORDER BY 1, 2",
    "order": "SELECT user_id, notification_id FROM notifications ORDER BY user_id, number",
    "open": "SELECT notification_id FROM notifications WHERE seen_at IS NULL ORDER BY 1",
}


async def test_a_store_without_counts_gets_those_that_it_would_have(pool: Pool, pg_dsn: str):
    """The tables as they were before the migration, with messages, receipts and notifications, and migrated again."""
    conversations, statuses, inbox = PostgresConversations(pool), PostgresStatuses(pool), PostgresNotifications(pool)
    room, quiet = await room_of(pool, "bert", "cora"), await room_of(pool, "bert")
    messages = [await say(pool, room, sender) for sender in ("alice", "bert", "alice", "alice")]
    await conversations.add(room, "dan", by="alice")
    messages += [await say(pool, room), await say(pool, room, "cora")]
    await statuses.advance([Watermark(room, "bert", 5, 4), Watermark(room, "alice", 7, 7)], 32)
    await conversations.remove(room, "cora", by="alice")
    await conversations.add(room, "cora", by="alice")
    messages.append(await say(pool, room))
    for message in messages:
        await inbox.add([draft_for(message, user) for user in ("bert", "cora", "dan")])

    def state(conn: psycopg.Connection[Any]) -> dict[str, list[Any]]:
        return {name: conn.execute(query.encode()).fetchall() for name, query in STATE.items()}

    with psycopg.connect(pg_dsn, autocommit=True) as conn:
        before = state(conn)
        for script in ("0014.read-state.rollback.sql", "0014.read-state.sql"):
            with conn.transaction():
                conn.execute((MIGRATIONS / script).read_bytes())
        assert state(conn) == before
    unread = {user: (await conversations.unread(user)).messages for user in ("bert", "cora", "dan")}
    assert unread == {"bert": 3, "cora": 1, "dan": 3}
    late = await say(pool, quiet)
    await inbox.add([draft_for(late, "bert")])
    assert len(await ids_of(pool, "bert", unseen=True)) == 4
