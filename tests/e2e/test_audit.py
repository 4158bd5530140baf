"""The audit of a running stack: clean after real traffic, and each damage that a bug could do is found and named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import msgspec
import psycopg
import pytest

from adapters.kafka.producer import open_log
from schemas.codec import record
from schemas.events import MessageCreated
from schemas.ids import new_id, outbox_shard
from schemas.messages import Message
from stack.running import RunningStack
from tests import make

from .conftest import ROOT, SECRET, Person, audit, errors, millrace, settled, until
from .test_front_doors import upload


def store(conn: psycopg.Connection[Any], message: Message) -> None:
    """As ingest does, and with the relay's mark, though Kafka has nothing: what a relay that loses rows would leave."""
    place = (message.conversation_id, message.seq)
    conn.execute("UPDATE conversations SET last_seq = %s WHERE conversation_id = %s", place[::-1])
    conn.execute(
        "INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, body_hash, created_at)"
        " VALUES (%s, %s, %s, %s, 'text', %s, '', now() - interval '10s')",
        (message.message_id, *place, message.sender_id, message.content),
    )
    conn.execute("UPDATE messages SET created_at = %s WHERE message_id = %s", (message.created_at, message.message_id))
    conn.execute(
        "INSERT INTO changes (conversation_id, seq, kind, message_id) VALUES (%s, %s, 'message', %s)",
        (*place, message.message_id),
    )
    conn.execute(
        "INSERT INTO outbox (conversation_id, seq, shard, topic, value, event_id, published_at)"
        " VALUES (%s, %s, %s, 'message.created', '', %s, now())",
        (*place, outbox_shard(message.conversation_id), message.message_id),
    )


def written_past_the_relay(stack: RunningStack, room: str, *seqs: int) -> list[Message]:
    """Messages that the store has and Kafka does not."""
    from schemas.clock import now

    messages = [make.message(conversation_id=room, seq=seq, content=SECRET, created_at=now()) for seq in seqs]
    with psycopg.connect(stack.pg_dsn) as conn:
        for message in messages:
            store(conn, message)
    return messages


def test_damage_in_the_store_is_named_and_healed(stack: RunningStack, person):
    alice: Person = person("alice")
    room = alice.create(person("bob").user)
    sent = [alice.send(room, SECRET) for _ in range(3)]
    media_id = upload(alice, b"just text", "notes.txt")
    alice.send(room, SECRET, attachments=[media_id])  # seq 4; what the media stage says of it is seq 5
    until(lambda: audit(stack, room)["by"]["notification.sent"]["checked"] == 4)
    said = settled(stack, room)
    checked = {name: line["checked"] for name, line in said["by"].items()}
    assert checked["changes"] == 5
    assert (checked["message.created"], checked["notification.sent"], checked["media.processed"]) == (4, 4, 1)
    assert checked["status"] == checked["search"] == checked["analytics"] == 4

    written_past_the_relay(stack, room, 6)
    after = alice.send(room, SECRET)  # so that what is healed comes late
    assert after["seq"] == 7
    until(lambda: alice.http.get(f"/messages/{after['messageId']}").json()["status"] == "sent")
    with psycopg.connect(stack.pg_dsn) as conn:
        conn.execute("DELETE FROM search_documents WHERE message_id = %s", (sent[0]["messageId"],))
        conn.execute("UPDATE messages SET status = 0 WHERE message_id = %s", (sent[1]["messageId"],))
        conn.execute("DELETE FROM outbox WHERE conversation_id = %s AND seq = 3", (room,))
        counted = "UPDATE analytics_minutes SET messages = messages + 10 WHERE conversation_id = %s"
        minutes = conn.execute(counted, (room,)).rowcount

    named = {
        ("search", "missing", 1),
        ("status", "missing", 2),
        ("outbox", "missing", 3),
        ("message.created", "missing", 6),
        ("analytics", "doubled", None),
    }
    until(lambda: audit(stack, room)["found"] == named)
    said = audit(stack, room, "--heal")
    assert said["found"] == named
    assert said["healed"] == {"republished": 4, "recounted": minutes, "refreshed": 0}
    said = settled(stack, room)
    assert said["by"]["message.created"]["checked"] == 6
    assert said["by"]["message.created"]["repeats"] == 3  # of 1, 2 and 3; of 6 it is the first


async def test_damage_in_a_topic_is_named(stack: RunningStack, person):
    alice: Person = person("alice")
    room = alice.create(person("bob").user)
    first, second, third = written_past_the_relay(stack, room, 1, 2, 3)
    phantom = make.message(conversation_id=room, seq=9, content=SECRET)
    forged = msgspec.structs.replace(third, content="somebody said something else")
    async with open_log(stack.kafka) as log:
        events = [MessageCreated(message=message) for message in (second, first, third, forged, third, phantom)]
        await log.append([record(event, producer="test") for event in events])
    named = {
        ("message.created", "out of order", 1),
        ("message.created", "different", 3),
        ("message.created", "phantom", 9),
        ("message.sent", "out of order", 1),
    }
    said: dict[str, Any] = until(lambda: named <= (look := audit(stack, room))["found"] and look)
    assert said["by"]["message.created"]["repeats"] == 2
    assert {check for check, kind, _ in said["found"] if kind == "phantom"} == {
        "message.created"
    }  # no stage believed it
    ids = {f["messageId"] for f in said["findings"] if f["kind"] == "phantom" and f["messageId"]}
    assert ids == {phantom.message_id}
    audit(stack, room, "--heal")
    said = audit(stack, room)
    assert not {check for check, _, _ in said["found"]} & {"analytics", "status"}  # the store is whole again
    assert ("message.created", "out of order", 1) in said["found"]  # a log cannot be mended


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "/nowhere"], "nothing runs in"),
        (["--since", "soon"], "--since: 'soon' is not a duration"),
        (["--conversation", "general"], "--conversation must be a UUID"),
    ],
)
def test_an_audit_that_cannot_look_says_so(stack: RunningStack, options: list[str], said: str):
    given = [] if "--data" in options else ["--data", str(stack.data)]
    done = millrace("audit", *given, *options)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert line.startswith("millrace: the audit failed: ")
    assert said in line


@contextmanager
def service(stack: RunningStack, dsn: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The audit as it runs in the background, on a database of its own."""
    env = {
        **os.environ,
        "MILLRACE_PG__DSN": dsn,
        "MILLRACE_KAFKA__BOOTSTRAP": stack.kafka.bootstrap,
        "MILLRACE_OPS__PORT": str(port),
        "MILLRACE_AUDIT__INTERVAL_S": "0.5",
    }
    process = subprocess.Popen([sys.executable, "-m", "audit"], cwd=ROOT, env=env, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def metric(port: int, name: str) -> float:
    """A metric of a process; -1 while it does not answer."""
    try:
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx2.HTTPError:
        return -1
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def test_one_service_audits_at_a_time_and_the_next_takes_over(stack: RunningStack, pg_dsn: str):
    from stack.ports import allot

    ghost = make.message(conversation_id=new_id())
    async with open_log(stack.kafka) as log:
        await log.append([record(MessageCreated(message=ghost), producer="test")])
    success, ports = "millrace_audit_last_success_timestamp_seconds", allot(("first", "second"), {}, {})
    with service(stack, pg_dsn, ports["first"]) as first, service(stack, pg_dsn, ports["second"]) as second:
        done = lambda: [metric(ports[name], success) > 0 for name in ("first", "second")]  # noqa: E731
        until(lambda: any(done()))
        worker, waiter = ("first", "second") if done()[0] else ("second", "first")
        assert metric(ports[worker], 'millrace_audit_findings{check="message.created"}') >= 1
        assert metric(ports[worker], "millrace_audit_duration_seconds") > 0
        assert metric(ports[waiter], success) == 0
        (first if worker == "first" else second).terminate()
        until(lambda: metric(ports[waiter], success) > 0)
