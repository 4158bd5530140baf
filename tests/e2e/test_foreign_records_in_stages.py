"""Thousands of records of strangers in the topics that stages read: no process ends, everybody else is served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import psycopg

from adapters.kafka.raw import write_raw
from schemas.fields import MAX_SEQ
from schemas.ids import new_id
from stack.running import RunningStack
from tests import make

from .conftest import SECRET, Person, millrace, until

RECORDS, MESSAGES = 3_000, 40
Raw = tuple[str, bytes | None, bytes | None]


def created(room: str, **changes: Any) -> bytes:
    message = {
        "messageId": new_id(),
        "conversationId": room,
        "seq": 1,
        "senderId": "mallory",
        "type": "text",
        "content": SECRET,
        "attachments": [],
        "replyTo": None,
        "createdAt": make.AT,
        "status": "pending",
    }
    return orjson.dumps({"message": {**message, **changes}})


def receipt(room: str, **changes: Any) -> bytes:
    fields = {"conversationId": room, "userId": "mallory", "deliveredSeq": 1, "readSeq": 1, "at": make.AT}
    return orjson.dumps({**fields, "device": "-", **changes})


def uploaded(media_id: str) -> bytes:
    return orjson.dumps({"mediaId": media_id, "ownerId": "mallory", "size": MAX_SEQ, "at": make.AT})


def foreign(room: str, victim: str) -> Iterator[Raw]:
    """Yield records of over twenty kinds for ever, most of them with the key of a conversation that is written to."""
    key = room.encode()
    while True:
        elsewhere = new_id()
        yield "message.created", key, created(room)
        yield "message.created", key, created(room, seq=MAX_SEQ)
        yield "message.created", key, created(room, seq=2**63)
        yield "message.created", key, created(room, seq=0)
        yield "message.created", key, created(room, createdAt="2026-02-30T00:00:00.000Z")
        yield "message.created", key, created(room, content="a\0b", type="poll", status="archived")
        yield "message.created", key, created(room, attachments=[new_id()] * 200)
        yield "message.created", key, created(room, senderId="x" * 300)
        yield "message.created", key, created(elsewhere)
        yield "message.created", elsewhere.encode(), created(elsewhere)
        yield "message.created", b"staging-42", created("staging-42")
        yield "message.created", b"\x1b[31m", created("\x1b[31m\0")
        yield "message.created", None, created(room)
        yield "message.created", key, None
        yield "message.created", key, b"[" * 10_000
        yield "receipt.recorded", key, receipt(room)
        yield "receipt.recorded", key, receipt(room, userId=victim, deliveredSeq=MAX_SEQ, readSeq=MAX_SEQ)
        yield "receipt.recorded", b"x' OR 1=1", receipt("x' OR 1=1")
        yield "receipt.recorded", key, receipt(room, deliveredSeq=2**63, device="\0")
        yield "receipt.recorded", elsewhere.encode(), receipt(elsewhere, userId=victim)
        yield "media.uploaded", key, uploaded(room)
        yield "media.uploaded", key, uploaded(elsewhere)
        yield "media.uploaded", b"\x1b[31m", uploaded("\x1b[31m")


def restarts(stack: RunningStack) -> dict[str, tuple[int, int]]:
    done = millrace("status", "--json", "--data", str(stack.data))
    return {p["name"]: (p["pid"], p["restarts"]) for p in json.loads(done.stdout)["processes"]}


def lag(stack: RunningStack) -> int:
    done = millrace("agents", "list", "--json", "--data", str(stack.data))
    return sum(int(row["lag"]) for row in json.loads(done.stdout))


def test_records_of_strangers_end_no_process_and_hold_up_nobody(stack: RunningStack, person):
    alice: Person = person("alice")
    bob: Person = person("bob")
    rooms = [alice.create(bob.user) for _ in range(2)]
    before, records = restarts(stack), list(islice(foreign(rooms[0], bob.user), RECORDS))

    async def attack() -> None:
        for begin in range(0, RECORDS, 300):
            await write_raw(stack.kafka, records[begin : begin + 300])

    async def talk() -> list[str]:
        sent = []
        for number in range(MESSAGES):
            said = await asyncio.to_thread(alice.send, rooms[number % 2], f"windmill {number}")
            sent.append(said["messageId"])
        return sent

    async def both() -> list[str]:
        return (await asyncio.gather(talk(), attack()))[0]

    sent = asyncio.run(both())
    until(lambda: all(alice.http.get(f"/messages/{id_}").json()["status"] == "sent" for id_ in sent))
    until(lambda: lag(stack) == 0)
    for room in rooms:
        page = bob.http.get(f"/conversations/{room}/messages").json()["messages"]
        assert len(page) == MESSAGES // 2
        assert SECRET not in str(page)
        assert _counted(stack, room) == (MESSAGES // 2, MESSAGES // 2, MESSAGES // 2, MESSAGES // 2)
    with psycopg.connect(stack.pg_dsn) as conn:
        query = "SELECT count(*) FROM receipts WHERE conversation_id = ANY(%s::uuid[])"
        assert conn.execute(query, (rooms,)).fetchone() == (0,)
    assert restarts(stack) == before


def _counted(stack: RunningStack, room: str) -> tuple[int, ...]:
    """Return what the stages keep of a conversation: documents, notifications, messages counted, and the cursor."""
    queries = (
        "SELECT count(*) FROM search_documents WHERE conversation_id = %s",
        "SELECT count(*) FROM notifications WHERE conversation_id = %s",
        "SELECT coalesce(sum(messages), 0) FROM analytics_minutes WHERE conversation_id = %s",
        "SELECT coalesce(max(seq), 0) FROM stage_cursors WHERE conversation_id = %s",
    )
    with psycopg.connect(stack.pg_dsn) as conn:
        return tuple(int(conn.execute(query, (room,)).fetchone()[0]) for query in queries)  # type: ignore[index]
