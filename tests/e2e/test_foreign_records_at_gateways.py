"""Thousands of foreign records on every topic that the gateway reads: no process ends, and nothing of them is shown."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from typing import Any

from aiokafka import AIOKafkaProducer

from gateway.dispatcher import READS
from runtime.kafka_settings import Kafka
from stack.running import RunningStack
from verify.foreign_records import FORGED_TEXT, KINDS, STRANGER, KnownMessage, foreign_records

from .conftest import Person, Socket, process, status

RECORDS = 3_000
HONEST = 20


def passed_over(stack: RunningStack) -> float:
    url = f"http://127.0.0.1:{process(stack, 'gateway')['opsPort']}/metrics"
    lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("millrace_passed_over_records_total{")
    )


async def pour(kafka: Kafka, known: KnownMessage) -> None:
    producer, rng, written = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap), random.Random(7), 0
    await producer.start()
    try:
        while written < RECORDS:
            for topic in (kind.TOPIC for kind in READS):
                for foreign in foreign_records(topic, known, rng):
                    await producer.send(topic, foreign.value, key=foreign.key)
                    written += 1
        await producer.flush()
    finally:
        await producer.stop()


def messages(frames: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """(seq, content) of each message but the first, of which a socket may or may not hear."""
    new = [frame["message"] for frame in frames if frame["type"] == "new_message"]
    return [(message["seq"], message["content"]) for message in new if message["content"] != "first"]


async def hear(socket: Socket, count: int) -> list[dict[str, Any]]:
    """All frames up to so many messages, and what comes until the answer to a ping."""
    frames: list[dict[str, Any]] = []
    while len(messages(frames)) < count:
        frames.append(await socket.next())
    await socket.say(type="ping", ref="end")
    while frames[-1]["type"] != "pong":
        frames.append(await socket.next())
    return frames


async def converse(stack: RunningStack, alice: Person, bob: Person) -> tuple[str, list[list[dict[str, Any]]]]:
    room = alice.create(bob.user)
    first = alice.send(room, "first")
    known = KnownMessage(conversation_id=room, message_id=first["messageId"], seq=first["seq"], sender_id=alice.user)
    async with bob.live() as joined, bob.live() as elsewhere:
        await joined.say(type="join_conversation", id=room, after=first["seq"])
        await joined.next("joined")
        heard = [asyncio.create_task(hear(socket, HONEST)) for socket in (joined, elsewhere)]
        pouring = asyncio.create_task(pour(stack.kafka, known))
        for number in range(HONEST - 1):
            await asyncio.to_thread(alice.send, room, f"honest {number}")
        await pouring
        await asyncio.to_thread(alice.send, room, "the last")
        return room, list(await asyncio.gather(*heard))


def test_thousands_of_foreign_records_end_no_process_and_are_shown_to_nobody(stack: RunningStack, person) -> None:
    before = passed_over(stack), {p["name"]: p["restarts"] for p in status(stack)["processes"]}
    alice = person("alice")
    room, heard = asyncio.run(converse(stack, alice, person("bob")))
    said = [*(f"honest {number}" for number in range(HONEST - 1)), "the last"]
    page = alice.http.get(f"/conversations/{room}/messages").json()["messages"]
    honest = {message["messageId"] for message in page}
    for frames in heard:
        assert messages(frames) == list(enumerate(said, 2))
        changes = {frame["change"] for frame in frames if frame["type"] == "conversation_changed"}
        assert changes <= {"created"}
        # Nothing is acknowledged here, so on a slow machine there are notifications, of what was said alone.
        assert {frame["messageId"] for frame in frames if frame["type"] == "notification"} <= honest
        kinds = {frame["type"] for frame in frames} - {"notification"}
        assert kinds <= {"new_message", "conversation_changed", "message_status", "presence", "pong"}
        text = json.dumps(frames)
        assert FORGED_TEXT not in text
        assert STRANGER not in text
    assert {p["name"]: p["restarts"] for p in status(stack)["processes"]} == before[1]
    assert passed_over(stack) - before[0] > RECORDS * (len(KINDS) - 2) / len(KINDS)
    assert [message["content"] for message in page] == ["first", *said]
