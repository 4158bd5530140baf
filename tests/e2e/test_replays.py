"""What is published again tells nobody twice, and puts derived rows right: on real servers, with real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stack.running import RunningStack
from tests.fault import topics

from .conftest import Person, Socket, audit, millrace, until


def idle(stack: RunningStack) -> bool:
    """True once no group has anything left to read."""
    done = millrace("agents", "list", "--data", str(stack.data), "--json")
    return all(row["lag"] == 0 for row in json.loads(done.stdout))


async def frames_until(socket: Socket, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """All frames up to one that fulfils the condition."""
    found: list[dict[str, Any]] = []
    while not found or not last(found[-1]):
        found.append(await socket.next())
    return found


async def test_a_republish_of_everything_sends_no_frame_to_sockets_that_had_it(stack: RunningStack, person):
    alice, bob, carol = person("alice"), person("bob"), person("carol")
    room = alice.create(bob.user, carol.user)
    answers = [alice.send(room, f"n {n}") for n in range(20)]
    bob.http.post(f"/conversations/{room}/receipts", json={"deliveredSeq": 20, "readSeq": 20}).raise_for_status()
    unseen = "/notifications?unseen=true"
    until(lambda: len(carol.http.get(unseen).json()["notifications"]) == 20)
    until(lambda: idle(stack))
    notified = await topics.ends(stack.kafka, "notification.sent")
    async with alice.live() as at_alice, bob.live() as at_bob, carol.live() as at_carol:
        await at_bob.say(type="join_conversation", id=room, after=20)
        await at_bob.next("joined")
        again = millrace("topics", "republish", "--since", "1h", "--conversation", room, "--data", str(stack.data))
        assert again.returncode == 0, again.stderr
        await asyncio.to_thread(until, lambda: idle(stack))
        alice.send(room, "the end")

        def ends(frame: dict[str, Any]) -> bool:
            return frame["type"] == "new_message" and frame["message"]["content"] == "the end"

        for socket in (at_alice, at_bob, at_carol):
            frames = await frames_until(socket, ends)
            assert [f["type"] for f in frames[:-1] if f["type"] not in ("presence", "message_status")] == []
            told = {f.get("seq") for f in frames[:-1] if f["type"] == "message_status"}
            assert told <= {21}
    written = [r for r in await topics.records(stack.kafka, "notification.sent", notified) if r.key == room.encode()]
    assert {json.loads(r.value)["seq"] for r in written} <= {21}, "nobody is notified again"
    assert len(answers) == 20


def falsify(stack: RunningStack, room: str) -> None:
    with psycopg.connect(stack.pg_dsn) as conn:
        conn.execute(
            "UPDATE search_documents SET digest = 'forged', seq = seq + 50 WHERE conversation_id = %s", (room,)
        )
        conn.execute("UPDATE analytics_minutes SET messages = messages + 7 WHERE conversation_id = %s", (room,))
        conn.execute("UPDATE messages SET status = 3 WHERE conversation_id = %s AND seq = 3", (room,))
        conn.execute("UPDATE messages SET status = 1 WHERE conversation_id = %s AND seq = 1", (room,))


def facts(stack: RunningStack, room: str) -> dict[str, Any]:
    """What is derived from the messages of a conversation, beside what the store says that it must be."""
    with psycopg.connect(stack.pg_dsn) as conn:
        documents = conn.execute(
            "SELECT count(*) FROM search_documents d JOIN messages m USING (message_id)"
            " WHERE d.conversation_id = %s AND (d.seq, d.sender_id) = (m.seq, m.sender_id)"
            " AND d.digest = substring(sha256(convert_to(m.content, 'UTF8')) FOR 16)",
            (room,),
        ).fetchone()
        counted = conn.execute(
            "SELECT sum(messages) FROM analytics_minutes WHERE conversation_id = %s", (room,)
        ).fetchone()
        statuses = conn.execute(
            "SELECT status FROM messages WHERE conversation_id = %s ORDER BY seq", (room,)
        ).fetchall()
    assert documents and counted
    return {"documents": documents[0], "counted": counted[0], "statuses": [row[0] for row in statuses]}


RIGHT = {"documents": 4, "counted": 4, "statuses": [2, 2, 1, 1]}


@pytest.fixture
def room(stack: RunningStack, person) -> str:
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    for n in range(4):
        alice.send(room, f"n {n}")
    bob.http.post(f"/conversations/{room}/receipts", json={"deliveredSeq": 2}).raise_for_status()
    until(lambda: facts(stack, room) == RIGHT)
    falsify(stack, room)
    assert facts(stack, room)["documents"] == 0
    return room


def test_a_heal_puts_falsified_rows_right(stack: RunningStack, room: str):
    wrong = {("search", "different"), ("analytics", "doubled"), ("messages", "different")}

    def found(*options: str) -> set[tuple[str, str]]:
        return {(f["check"], f["kind"]) for f in audit(stack, room, *options)["findings"]}

    until(lambda: found() == wrong)  # once the messages are older than the grace
    assert found("--heal") == wrong
    assert facts(stack, room) == RIGHT
    assert audit(stack, room)["clean"]


def test_a_republish_puts_falsified_documents_and_counts_right(stack: RunningStack, room: str):
    done = millrace("topics", "republish", "--since", "1h", "--conversation", room, "--data", str(stack.data))
    assert done.returncode == 0, done.stderr
    until(lambda: (now := facts(stack, room)) and (now["documents"], now["counted"]) == (4, 4))


def test_a_replay_of_dead_letters_tells_of_what_nobody_was_told(stack: RunningStack, person: Callable[..., Person]):
    """The status stage refuses a message at first; its replay is the first time that it is told."""
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    with psycopg.connect(stack.pg_dsn, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE messages ADD CONSTRAINT refused CHECK (conversation_id <> '{room}' OR status < 1)")
        try:
            sent = alice.send(room, "late")
            letters = ("dlq", "list", "status", "--conversation", room, "--json", "--data", str(stack.data))
            until(lambda: json.loads(millrace(*letters).stdout))
        finally:
            conn.execute("ALTER TABLE messages DROP CONSTRAINT refused")

    async def told() -> dict[str, Any]:
        async with bob.live() as socket:
            replay = ("dlq", "replay", "status", "--conversation", room, "--data", str(stack.data))
            done = await asyncio.to_thread(millrace, *replay)
            assert (done.returncode, done.stdout) == (0, "1 handled\n")
            return await socket.next("new_message")

    assert asyncio.run(told())["message"]["messageId"] == sent["messageId"]
