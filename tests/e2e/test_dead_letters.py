"""Dead letters on real servers: parking, looking, replaying, and a worker that cannot write them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from typing import Any

import psycopg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from adapters.kafka.producer import open_log
from schemas.codec import Record, record
from schemas.ids import new_id
from stack.running import RunningStack
from tests import make

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

    said = dlq(stack, "replay", "analytics", "--conversation", bad)
    assert said == {"replayed": 4, "failing": []}
    assert counted(alice, bad) == 4
    alice.send(bad)
    until(lambda: counted(alice, bad) == 5)
    assert {one["state"] for one in dlq(stack, "list", "analytics", "--conversation", bad)} == {"replayed"}
    assert dlq(stack, "replay", "analytics", "--conversation", bad) == {"replayed": 0, "failing": []}
    page = alice.http.get(f"/conversations/{bad}/messages").json()["messages"]
    assert {message["status"] for message in page} == {"sent"}  # the other stages saw the records again


async def test_malformed_bytes_park_nothing_and_come_back_to_the_dead_letters(stack: RunningStack, person):
    alice = person("alice")
    room = alice.create()
    async with open_log(stack.kafka) as log:
        await log.append([Record("message.created", room.encode(), b"\x00garbage")])
    until(lambda: len(dlq(stack, "list", "search", "--conversation", room)) == 1)
    alice.send(room)
    until(lambda: counted(alice, room) == 1)
    assert dlq(stack, "replay", "search", "--conversation", room) == {"replayed": 1, "failing": []}
    until(lambda: len(dlq(stack, "list", "search", "--conversation", room)) == 2)
    assert [one["state"] for one in dlq(stack, "list", "search", "--conversation", room)] == ["replayed", "open"]
    for arguments in (("list", "nonsense"), ("show", "search", "99/99"), ("replay", "search")):
        done = millrace("dlq", *arguments, "--data", str(stack.data))
        assert (done.returncode, errors(done)[0][:10]) == (1, "millrace: ")


async def test_a_worker_that_cannot_write_dead_letters_ends_without_a_commit(stack: RunningStack, tmp_path):
    name = f"alone-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        # So small that the broker refuses every letter.
        await admin.create_topics([NewTopic(f"{name}.dlq", 12, 1, topic_configs={"max.message.bytes": "20"})])
        async with open_log(stack.kafka) as log:
            room = new_id()
            await log.append([record(make.created(conversation_id=room), producer="test")])
        env = {
            **os.environ,
            "MILLRACE_PG__DSN": stack.pg_dsn,
            "MILLRACE_KAFKA__BOOTSTRAP": stack.kafka,
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
