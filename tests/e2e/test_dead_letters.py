"""Dead letters on real servers: parking, looking, replaying, and a worker that cannot write them."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.kafka.producer import open_log
from schemas.codec import Record, record
from schemas.ids import new_id
from schemas.topics import stages
from stack.running import RunningStack
from tests import make
from tests.fault import topics

from .conftest import ROOT, Person, errors, millrace, until


def dlq(stack: RunningStack, *arguments: str) -> Any:
    done = millrace("dlq", *arguments, "--data", str(stack.data), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counted(person: Person, room: str) -> int:
    minutes = person.http.get(f"/conversations/{room}/analytics").json()["minutes"]
    return sum(minute["messages"] for minute in minutes)


@contextmanager
def uncountable(stack: RunningStack, room: str):
    """The store refuses to count this conversation, which is no outage: a record that can never work."""
    with psycopg.connect(stack.pg_dsn, autocommit=True) as conn:
        condition = f"CHECK (conversation_id <> '{room}')"
        conn.execute(f"ALTER TABLE analytics_minutes ADD CONSTRAINT refused {condition}")
        try:
            yield
        finally:
            conn.execute("ALTER TABLE analytics_minutes DROP CONSTRAINT refused")


def test_a_failure_parks_its_conversation_until_it_is_replayed(stack: RunningStack, person):
    alice = person("alice")
    bad, good = alice.create(), alice.create()
    with uncountable(stack, bad):
        for n in range(3):
            alice.send(bad, f"secret {n}")
            alice.send(good)
        until(lambda: counted(alice, good) == 3)
        until(lambda: len(dlq(stack, "list", "analytics", "--conversation", bad)) == 3)
    alice.send(bad, "secret 3")
    until(lambda: len(dlq(stack, "list", "analytics", "--conversation", bad)) == 4)
    letters = dlq(stack, "list", "analytics", "--conversation", bad)
    assert [one["cause"] for one in letters] == ["CheckViolation", "parked", "parked", "parked"]
    assert {one["state"] for one in letters} == {"open"}
    assert counted(alice, bad) == 0

    shown = millrace("dlq", "show", "analytics", letters[0]["letter"], "--data", str(stack.data)).stdout
    assert json.loads(shown)["headers"]["ce_type"] == "message.created"
    assert "secret" not in shown
    whole = millrace("dlq", "show", "analytics", letters[0]["letter"], "--bytes", "--data", str(stack.data)).stdout
    assert json.loads(whole)["message"]["content"] == "secret 0"

    dry = dlq(stack, "replay", "analytics", "--conversation", bad, "--dry-run")
    assert [one["letter"] for one in dry] == [one["letter"] for one in letters]
    verdict = dlq(stack, "replay", "analytics", "--conversation", bad)
    assert (verdict["replayed"], verdict["handled"], verdict["failed"], verdict["failing"]) == (4, 4, 0, [])
    assert counted(alice, bad) == 4
    alice.send(bad)
    until(lambda: counted(alice, bad) == 5)
    assert {one["state"] for one in dlq(stack, "list", "analytics", "--conversation", bad)} == {"handled"}
    assert dlq(stack, "list", "analytics", "--conversation", bad, "--open") == []
    assert dlq(stack, "replay", "analytics", "--conversation", bad)["replayed"] == 0
    actions = operator_actions(stack, bad)
    assert [(command, result["handled"]) for command, result in actions] == [("dlq replay", 4), ("dlq replay", 0)]


def operator_actions(stack: RunningStack, room: str) -> list[tuple[str, dict[str, Any]]]:
    """The recorded actions on a conversation: command and result."""
    query = (
        "SELECT command, result FROM operator_actions"
        " WHERE scope ->> 'conversationId' = %s AND operator = %s ORDER BY action_id"
    )
    with psycopg.connect(stack.pg_dsn) as conn:
        return conn.execute(query, (room, getpass.getuser())).fetchall()


def test_a_discarded_record_is_passed_over_and_its_conversation_goes_on_in_order(stack: RunningStack, person):
    alice = person("alice")
    room = alice.create()
    with uncountable(stack, room):
        for _ in range(3):
            alice.send(room)
        until(lambda: len(dlq(stack, "list", "analytics", "--conversation", room)) == 3)
    assert len(dlq(stack, "discard", "analytics", "--reason", "forged", "--conversation", room, "--dry-run")) == 1
    outcome = dlq(stack, "discard", "analytics", "--reason", "forged", "--conversation", room)
    assert (outcome["discarded"], outcome["handled"], outcome["failed"]) == (1, 2, 0)
    alice.send(room)
    until(lambda: counted(alice, room) >= 3)
    letters = dlq(stack, "list", "analytics", "--conversation", room)
    assert [one["state"] for one in letters] == ["discarded", "handled", "handled"]
    shown = json.loads(millrace("dlq", "show", "analytics", letters[0]["letter"], "--data", str(stack.data)).stdout)
    assert (shown["reason"], shown["detail"]) == (
        "forged",
        "sqlstate 23514, constraint refused, table analytics_minutes",
    )
    assert shown["stack"][-1].startswith("psycopg.")
    assert any(line.startswith("adapters.postgres.analytics:") for line in shown["stack"])
    assert [command for command, _ in operator_actions(stack, room)] == ["dlq discard"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 3_000])
async def test_what_fails_again_is_told_and_multiplies_nowhere(stack: RunningStack, person, count: int):
    alice = person("alice")
    room = alice.create()
    since = {name: await topics.ends(stack.kafka, f"{name}.dlq") for name in stages()}
    async with open_log(stack.kafka) as log:
        await log.append([Record("message.created", room.encode(), b"garbage %d" % n) for n in range(count)])

    def open_letters(name: str) -> list[dict[str, Any]]:
        return dlq(stack, "list", name, "--conversation", room, "--open")

    async def letters_of(name: str) -> list[Any]:
        return [r for r in await topics.records(stack.kafka, f"{name}.dlq", since[name]) if r.key == room.encode()]

    async with asyncio.timeout(90):
        for name in stages():
            while len(await letters_of(name)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert [len(open_letters(name)) for name in stages()] == [count] * len(stages())
    for attempts in (2, 3):
        done = millrace(
            "dlq", "replay", "search", "--conversation", room, "--rate", "2000", "--data", str(stack.data), "--json"
        )
        verdict = json.loads(done.stdout)
        assert (done.returncode, verdict["handled"], verdict["failed"]) == (1, 0, count)
        assert f"{count} records failed again" in done.stderr
        letters = open_letters("search")
        assert (len(letters), {one["attempts"] for one in letters}) == (count, {attempts})
    for name in stages():
        assert len(await letters_of(name)) == (3 * count if name == "search" else count)
    outcome = dlq(stack, "discard", "search", "--reason", "a test", "--conversation", room)
    assert outcome["discarded"] == count
    assert open_letters("search") == []


async def test_malformed_bytes_park_nothing_and_come_back_to_the_dead_letters(stack: RunningStack, person):
    alice = person("alice")
    room = alice.create()
    async with open_log(stack.kafka) as log:
        await log.append([Record("message.created", room.encode(), b"\x00garbage")])
    [first] = until(lambda: dlq(stack, "list", "search", "--conversation", room))
    alice.send(room)
    until(lambda: counted(alice, room) == 1)
    done = millrace("dlq", "replay", "search", "--conversation", room, "--data", str(stack.data))
    assert (done.returncode, done.stdout) == (1, f"0 handled, 1 failed again: {first['cause']}\n")
    [again] = dlq(stack, "list", "search", "--conversation", room)
    assert (again["origin"], again["state"], again["attempts"]) == (first["origin"], "open", first["attempts"] + 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "nonsense"),
        ("show", "search", "99/99"),
        ("replay", "search"),
        ("replay", "search", "--all", "--cause", "KeyError"),
        ("replay", "search", "--since", "yesterday"),
        ("replay", "search", "--until", "2026-01-31T12:00:00"),
        ("discard", "search", "--reason", " "),
        ("discard", "nonsense", "--reason", "x"),
    ],
)
def test_a_wrong_call_changes_nothing_and_says_what_is_wrong(stack: RunningStack, arguments):
    done = millrace("dlq", *arguments, "--data", str(stack.data))
    assert (done.returncode, done.stdout, errors(done)[0][:10]) == (1, "", "millrace: ")


async def test_a_worker_that_cannot_write_dead_letters_ends_without_a_commit(stack: RunningStack, tmp_path):
    name = f"alone-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    try:
        # So small that the broker refuses every letter.
        small = {"max.message.bytes": "20"}
        await admin.create_topics(
            [NewTopic(f"{name}.dlq", 12, 1, topic_configs=small), NewTopic(f"{name}.retry", 12, 1)]
        )
        async with open_log(stack.kafka) as log:
            room = new_id()
            await log.append([record(make.created(conversation_id=room), producer="test")])
        env = {
            **os.environ,
            "MILLRACE_PG__DSN": stack.pg_dsn,
            "MILLRACE_KAFKA__BOOTSTRAP": stack.kafka.bootstrap,
            "MILLRACE_DATA_DIR": str(tmp_path),
        }
        command = [sys.executable, "-m", "tests.e2e.stage_alone", name]
        done = await asyncio.to_thread(
            subprocess.run, command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 75, done.stdout[-2000:]
        assert "Kafka does not answer; the append was not acknowledged" in done.stdout.splitlines()[-1]
        committed = await admin.list_consumer_group_offsets(name)
        assert [at.offset for at in committed.values() if at.offset > 0] == []
    finally:
        await admin.close()
