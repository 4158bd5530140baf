"""Thousands of members who are away, on the real stack: each is notified once, and nobody else waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg
from psycopg.sql import SQL, Identifier, Literal

from schemas.ids import new_id
from stack.running import RunningStack
from tests.fault import topics

from .conftest import Person, kill, process, settled, until

AWAY, MESSAGES, BOUND_S = 4_999, 40, 10.0
"""A stranger waits 0.1 s. With a row for each message and member it was 50 s."""
_KEY = 20_260


def audience() -> list[str]:
    """Ids short enough for one call: its body has at most 64 KiB."""
    tag = new_id()[-5:]
    return [f"{tag}{number}" for number in range(AWAY)]


def stored(stack: RunningStack, room: str) -> list[tuple[str, str, int]]:
    """Notifications of the conversation: id, user, seq."""
    with psycopg.connect(stack.pg_dsn, autocommit=True) as conn:
        query = "SELECT notification_id::text, user_id, seq FROM notifications WHERE conversation_id = %s"
        return list(conn.execute(query, [room]).fetchall())


def notified(person: Person) -> list[dict[str, Any]]:
    return list(person.http.get("/notifications").json()["notifications"])


def test_a_message_to_thousands_delays_no_stranger_and_later_ones_add_no_rows(stack: RunningStack, person):
    alice, bob = person("alice"), person("bob")
    small, users, lives = alice.create(bob.user), audience(), process(stack, "notification")["restarts"]
    large = alice.create(*users)
    for number in range(MESSAGES):
        alice.send(large, f"all hands {number}")
    alice.send(small, "are you there?")
    began = time.monotonic()
    until(lambda: notified(bob))
    assert time.monotonic() - began < BOUND_S
    settled(stack, large)
    rows = stored(stack, large)
    assert sorted(user for _, user, _ in rows) == sorted(users)
    assert {seq for _, _, seq in rows} == {1}
    assert process(stack, "notification")["restarts"] == lives


@contextmanager
def held(stack: RunningStack, user: str) -> Iterator[None]:
    """No notification of this user can be stored: the statement waits."""
    names = {"name": Identifier(f"held_{user}"), "user": Literal(user), "key": Literal(_KEY)}
    function = """CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_advisory_xact_lock(TG_ARGV[0]::bigint); RETURN NEW; END'"""
    trigger = """CREATE TRIGGER {name} BEFORE INSERT ON notifications FOR EACH ROW
        WHEN (NEW.user_id = {user}) EXECUTE FUNCTION {name}({key})"""
    with psycopg.connect(stack.pg_dsn, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", [_KEY])
        conn.execute(SQL(function).format(**names))
        conn.execute(SQL(trigger).format(**names))
        try:
            yield
        finally:
            conn.execute("SELECT pg_advisory_unlock(%s)", [_KEY])
            conn.execute(SQL("DROP FUNCTION {name} CASCADE").format(**names))


async def test_a_stage_killed_between_two_parts_of_a_message_notifies_each_member_once(stack: RunningStack, person):
    alice, users, since = person("alice"), audience(), await topics.ends(stack.kafka, "notification.sent")
    large = alice.create(*users)
    with held(stack, max(users)):  # one of the last part
        sent = alice.send(large, "all hands")
        until(lambda: 0 < len(stored(stack, large)) < AWAY)
        kill(stack, "notification")
    alice.send(large, "and once more")
    settled(stack, large)
    rows = stored(stack, large)
    assert sorted(user for _, user, _ in rows) == sorted(users)
    assert {seq for _, _, seq in rows} == {sent["seq"]}
    events = [orjson.loads(each.value) for each in await topics.records(stack.kafka, "notification.sent", since)]
    mine = {event["notificationId"]: event["userId"] for event in events if event["conversationId"] == large}
    assert mine == {id_: user for id_, user, _ in rows}
