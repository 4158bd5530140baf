"""The broker comes back with nothing: what was accepted before and meanwhile goes all the way all the same."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import suppress
from typing import Any

import orjson
import psycopg
import pytest

from adapters.kafka.consumer import open_consumer
from schemas.ids import new_id
from stack.running import RunningStack
from stack.servers.data_dir import DataDir
from stack.servers.kafka import Kafka

from .conftest import Person, Socket, kill, millrace, status, until
from .test_attachments import is_inspected, picture
from .test_front_doors import upload


async def lose_everything(stack: RunningStack) -> None:
    """A new storage in the place of the old one."""
    ports = json.loads((stack.data / "ports.json").read_text())
    storage = stack.data / "kafka"
    storage.rename(storage.with_name("kafka.lost"))
    kill(stack, "kafka")
    shutil.rmtree(storage.with_name("kafka.lost"), ignore_errors=True)
    await Kafka(DataDir(stack.data), ports["kafka"], ports["kafka-controller"]).prepare()


async def lose_the_records(stack: RunningStack) -> None:
    """Topics and groups are still known, the records are gone: committed offsets lie beyond the ends."""
    kill(stack, "kafka")
    for partition in (stack.data / "kafka").glob("*.*-*"):
        if partition.is_dir() and not partition.name.startswith("__"):
            shutil.rmtree(partition, ignore_errors=True)


async def seqs_shown(socket: Socket, room: str, head: int) -> list[int]:
    """What a client shows: seqs beyond its cursor, in the order they came."""
    shown: list[int] = []
    async with asyncio.timeout(60):
        while not shown or shown[-1] < head:
            said = await socket.next("new_message")
            if said["conversationId"] == room and said["seq"] > (shown[-1] if shown else 0):
                shown.append(said["seq"])
    return shown


def rows(stack: RunningStack, query: str, room: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.pg_dsn) as conn:
        return conn.execute(query, [room]).fetchall()


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("lose", [lose_everything, lose_the_records])
async def test_a_broker_that_lost_its_log_is_filled_again(stack: RunningStack, person, lose):
    alice, bob, carol = person("alice"), person("bob"), person("carol")
    room = alice.create(bob.user, carol.user)
    async with bob.live() as socket:
        await socket.say(type="join_conversation", id=room, after=0)
        await socket.next("joined")
        shown = asyncio.create_task(seqs_shown(socket, room, 40))
        for n in range(20):
            alice.send(room, f"before {n}")
        await asyncio.to_thread(until, lambda: sent(alice, room) == 20)
        await lose(stack)
        file = upload(alice, picture(4 if lose is lose_everything else 5), "meanwhile.jpg")
        for n in range(20):
            alice.send(room, f"meanwhile {n}")  # Kafka is never in the way of a request
        assert await shown == list(range(1, 41))
        await socket.say(type="ack", conversationId=room, seq=40)
        await asyncio.to_thread(until, lambda: sent(alice, room) == 40, 60)
        await asyncio.to_thread(until, lambda: is_inspected(alice, file), 60)
        # Bob stays: what comes again would be news to him, were he gone before his receipt is in.
        for query, expected in (
            ("SELECT sum(messages) FROM analytics_minutes WHERE conversation_id = %s", 40),
            ("SELECT count(*) FROM search_documents WHERE conversation_id = %s", 40),
            ("SELECT count(DISTINCT (message_id, user_id)) FROM notifications WHERE conversation_id = %s", 40),
            ("SELECT count(*) FROM outbox WHERE conversation_id = %s AND published_at IS NULL", 0),
        ):
            with suppress(AssertionError):
                found = lambda query=query: rows(stack, query, room)[0][0]  # noqa: E731
                await asyncio.to_thread(until, lambda expected=expected, found=found: found() == expected, 60)
            assert (query, found()) == (query, expected)
    assert {user for (user,) in rows(stack, "SELECT user_id FROM notifications WHERE conversation_id = %s", room)} == {
        carol.user
    }
    assert await first_occurrences(stack, room, 40) == list(range(1, 41))
    until(lambda: status(stack)["state"] == "ready", 60)


def sent(person: Person, room: str) -> int:
    page = person.http.get(f"/conversations/{room}/messages?limit=200").json()
    return sum(message["status"] != "pending" for message in page["messages"])


async def first_occurrences(stack: RunningStack, room: str, count: int) -> list[int]:
    """The seqs of a conversation in the new log, as a consumer that starts at its beginning meets them."""
    seen: list[int] = []
    async with open_consumer(stack.kafka, topics=["message.created"], group=f"test-{new_id()}") as consumer:
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while len(seen) < count:
                    for record in await consumer.batch(1000):
                        seq = orjson.loads(record.value)["message"]["seq"] if record.key == room.encode() else 0
                        if seq and seq not in seen:
                            seen.append(seq)
    return seen


def test_events_are_published_again_by_hand(stack: RunningStack, person):
    alice = person("alice")
    room = alice.create()
    for n in range(5):
        alice.send(room, str(n))
    until(lambda: sent(alice, room) == 5)
    done = millrace("topics", "republish", "--since", "1h", "--conversation", room, "--data", str(stack.data), "--json")
    assert json.loads(done.stdout) == {"republished": 6}, done.stderr  # five messages, and the creation
    owed = "SELECT count(*) FROM outbox WHERE conversation_id = %s AND published_at IS NULL"
    assert rows(stack, owed, room) == [(0,)]
    query = "SELECT sum(messages) FROM analytics_minutes WHERE conversation_id = %s"
    until(lambda: rows(stack, query, room) == [(5,)])
    bad = millrace("topics", "republish", "--since", "yesterday", "--data", str(stack.data))
    assert (bad.returncode, "Traceback" in bad.stderr) == (1, False)
