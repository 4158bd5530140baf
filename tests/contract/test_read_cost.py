"""Lists cost what they show, however much is unread and however much there is: from PostgreSQL's plans and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from adapters.postgres.statements import load
from schemas.ids import new_id

CONVERSATIONS, NOTIFICATIONS = load("conversations"), load("notifications")
ROOMS, SAID = 600, 1_000
FIRST_PAGE = {"before_at": None, "before_id": None, "limit": 50}


def fill(conn: psycopg.Connection[Any], user: str, rooms: int, messages: int, *, read: bool) -> None:
    """Conversations of a user with so many messages by others in each."""
    ids = [new_id() for _ in range(rooms)]
    params = {"ids": ids, "user": user, "messages": messages, "read": messages if read else 0}
    conn.execute(
        """INSERT INTO conversations (conversation_id, created_by, last_seq, message_count, last_at)
           SELECT id, 'other', %(messages)s, %(messages)s, now() - nth * interval '1 minute'
           FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS made (id, nth)""",
        params,
    )
    conn.execute(
        """INSERT INTO members (conversation_id, user_id, role, joined_seq)
           SELECT id, who, 'member', 0 FROM unnest(%(ids)s::uuid[]) AS id, unnest(ARRAY['other', %(user)s]) AS who""",
        params,
    )
    conn.execute(
        """INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, body_hash)
           SELECT gen_random_uuid(), id, seq, 'other', 'text', 'hello', ''
           FROM unnest(%(ids)s::uuid[]) AS id, generate_series(1, %(messages)s) AS seq""",
        params,
    )
    conn.execute(
        """INSERT INTO receipts (conversation_id, user_id, delivered_seq, read_seq, read_count)
           SELECT id, %(user)s, %(messages)s, %(read)s, %(read)s FROM unnest(%(ids)s::uuid[]) AS id""",
        params,
    )


def notify(conn: psycopg.Connection[Any], user: str, count: int) -> None:
    """Seen notifications of a user."""
    conn.execute(
        """INSERT INTO notifications
               (notification_id, user_id, conversation_id, message_id, seq, channel, number, seen_at)
           SELECT gen_random_uuid(), user_id, conversation_id, message_id, seq, 'in_app', row_number() OVER (), now()
           FROM messages JOIN members USING (conversation_id) WHERE user_id = %s LIMIT %s""",
        (user, count),
    )


@pytest.fixture(scope="module", params=["unanalysed", "analysed"])
def conn(request: pytest.FixtureRequest, pg_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A database in which one has read all and another nothing, with and without statistics of it."""
    with psycopg.connect(pg_dsn, autocommit=True) as opened:
        if request.param == "unanalysed":
            for table in ("messages", "members", "conversations", "receipts", "notifications"):
                opened.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
            fill(opened, "reader", 20, SAID, read=True)
            fill(opened, "sleeper", 20, SAID, read=False)
            fill(opened, "many", ROOMS, 3, read=False)
            notify(opened, "sleeper", SAID)
        else:
            opened.execute("ANALYZE messages, members, conversations, receipts, notifications")
        yield opened


def plan_of(conn: psycopg.Connection[Any], statement: str, **params: Any) -> Mapping[str, Any]:
    """The plan of a statement that has run, with what it read. The second run: the first may clean pages up."""
    for _ in range(2):
        row = conn.execute(("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement).encode(), params).fetchone()
    assert row is not None
    plan: Mapping[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def pages(plan: Mapping[str, Any]) -> int:
    """Pages that a statement touched."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def rows_of(plan: Mapping[str, Any], table: str) -> int:
    """Rows of a table that a statement read, also those that it then left out."""
    scans = [node for node in nodes(plan) if node.get("Relation Name") == table]
    return round(
        sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    )


@pytest.mark.parametrize("name", ["mine", "unread"])
def test_it_costs_the_same_with_nothing_and_with_a_thousand_unread(conn: psycopg.Connection[Any], name: str):
    reader, sleeper = (
        plan_of(conn, CONVERSATIONS[name], user_id=user, **(FIRST_PAGE if name == "mine" else {}))
        for user in ("reader", "sleeper")
    )
    assert pages(sleeper) <= 1.2 * pages(reader) + 5
    assert pages(reader) <= 1.2 * pages(sleeper) + 5
    assert rows_of(sleeper, "messages") == rows_of(reader, "messages") == (20 if name == "mine" else 0)


def test_last_messages_and_watermarks_are_read_for_the_page_only(conn: psycopg.Connection[Any]):
    plan = plan_of(conn, CONVERSATIONS["mine"], user_id="many", **FIRST_PAGE)
    assert plan["Actual Rows"] == 50
    assert rows_of(plan, "messages") == 50
    if rows_of(plan, "receipts") > 50:  # without statistics PostgreSQL may read the small table whole
        assert pages(plan) < 3 * ROOMS
    assert rows_of(plan, "conversations") <= ROOMS + 40


def test_a_total_reads_a_row_of_each_table_for_each_conversation(conn: psycopg.Connection[Any]):
    plan = plan_of(conn, CONVERSATIONS["unread"], user_id="many")
    assert pages(plan) <= 10 * ROOMS
    [(messages, conversations)] = conn.execute(CONVERSATIONS["unread"], {"user_id": "many"}).fetchall()
    assert (messages, conversations) == (3 * ROOMS, ROOMS)


@pytest.mark.parametrize("name", ["page", "unseen"])
def test_a_page_of_notifications_reads_what_it_shows(conn: psycopg.Connection[Any], name: str):
    plan = plan_of(conn, NOTIFICATIONS[name], user_id="sleeper", before=None, limit=20)
    assert plan["Actual Rows"] == (20 if name == "page" else 0)
    assert rows_of(plan, "notifications") <= 20
    assert rows_of(plan, "messages") <= 20
