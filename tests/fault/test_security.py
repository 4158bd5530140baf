"""Rows 45 to 47: clocks that disagree, and callers that mean harm."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from jose import jwt

from stack.running import RunningStack
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.sockets import open_socket
from verify.fake_clock import CLOCKS, library, set_clock

STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, "", " ", "\0", "\u202e", "\ufeff", "a" * 5000, "\N{WATER WAVE}" * 4001, [], {},
    [[]], {"a": {}}, "' OR 1=1 --", "<script>", "../../etc/passwd", "%s%n", "text", ["x"] * 1000,
)  # fmt: skip


def token_from(stack: RunningStack, user: str, *, issued: int, ends: int) -> str:
    """Issued so long from now, ending so long from now, in seconds."""
    now = int(time.time())
    claims = {"sub": user, "iss": "millrace", "aud": "millrace", "iat": now + issued, "exp": now + ends}
    return str(jwt.encode({**claims, "jti": uuid.uuid4().hex}, stack.jwt_secret, algorithm="HS256"))


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="libfaketime is not installed (apt-get install faketime)")
async def test_row_45_clocks_that_disagree_change_no_order(stack: RunningStack, beside: Beside, tmp_path: Path):
    clocks = tmp_path / "clocks"
    clocks.mkdir()
    wrap: dict[str, Any] = {"wrap": ["verify.fake_clock"], "env": {CLOCKS: str(clocks)}}
    late, early = await asyncio.gather(beside("ingest", node="late", **wrap), beside("gateway", node="early", **wrap))
    async with open_chat(stack, watched=False, doors=[late.http_url, stack.http_url]) as chat:
        for users in chat.rooms.values():
            for user in users:  # good by all three clocks
                chat.tokens[user] = token_from(stack, user, issued=-900, ends=1800)
        for room, users in chat.rooms.items():
            await chat.watch(users[1], room, early.ws_url)
        await chat.say(30)
        set_clock(clocks, "late", -600)
        set_clock(clocks, "early", 600)
        await asyncio.sleep(2)  # libfaketime looks once a second
        await chat.say(60)
        set_clock(clocks, "late", 600)
        set_clock(clocks, "early", -600)
        await chat.say(60, pace_s=0.2)
        await chat.settled()
        await chat.verdict()


def bodies(rng: random.Random, room: str) -> list[bytes]:
    """What a caller might try, in JSON and not."""
    good = {"conversationId": room, "type": "text", "content": "hi", "clientMessageId": "k", "replyTo": None}
    found = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 500, b'{"content":"\\ud800"}']
    for name in (*good, "attachments", "status", "seq", "senderId", "__proto__"):
        found += [orjson.dumps({**good, name: value}) for value in STRANGE if not isinstance(value, float)]
    for _ in range(200):
        raw = bytearray(orjson.dumps(good))
        for _ in range(rng.randint(1, 6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        found.append(bytes(raw))
    return found


@pytest.mark.slow
async def test_row_47_no_body_is_an_error_of_ours(stack: RunningStack):
    rng = random.Random(47)
    async with open_chat(stack, rooms=1) as chat, httpx2.AsyncClient(base_url=stack.http_url, timeout=10) as client:
        [(room, users)] = chat.rooms.items()
        headers = {"authorization": f"Bearer {chat.token(users[0])}", "content-type": "application/json"}
        room_calls = (f"/conversations/{room}/receipts", f"/conversations/{room}/members")
        for path in ("/messages", "/conversations", "/notifications/seen", *room_calls):
            for body in bodies(rng, room):
                answer = await client.post(path, content=body, headers=headers)
                assert answer.status_code < 500, (path, body[:200], answer.text)
                assert answer.status_code < 400 or answer.json()["code"]
                assert "Traceback" not in answer.text
        for path in ("/messages/{}", "/conversations/{}", "/conversations/{}/messages", "/search?q={}", "/media/{}"):
            for value in ("%7F", "%00", "%F0%9F%8C%8A", "..%2f..", "a" * 3000, "-1", "0" * 36, "%25s"):
                answer = await client.get(path.format(value), headers=headers)
                assert answer.status_code < 500, (path, value, answer.text)


@pytest.mark.slow
async def test_row_47_no_frame_is_an_error_of_ours(stack: RunningStack, beside: Beside):
    rng = random.Random(47)
    kinds = ("join_conversation", "leave_conversation", "ack", "read", "typing", "auth.refresh", "ping", "nonsense")
    # One user comes more often here than one may.
    gateway = await beside("gateway", env={"MILLRACE_GATEWAY__CONNECTS_PER_S_USER": "0"})
    async with open_chat(stack, rooms=1) as chat:
        [(room, users)] = chat.rooms.items()
        codes = set()
        for kind in kinds:
            frames = [b"", b"{", b"\xff", b"[" * 30_000, *(orjson.dumps({"type": kind, n: v}) for n in
                      ("id", "seq", "after", "conversationId", "messageId", "isTyping", "token", "ref") for v in STRANGE
                      if not isinstance(v, float))]  # fmt: skip
            rng.shuffle(frames)
            for start in range(0, len(frames), 9):  # the tenth bad frame ends a connection
                async with open_socket(gateway.ws_url, chat.token(users[0])) as socket:
                    await socket.join(room)
                    for frame in frames[start : start + 9]:
                        await socket.socket.send(frame)
                    await socket.say(type="ping", ref="still there")
                    said = await socket.until("pong")
                    codes |= {each["code"] for each in said if each["type"] == "error"}
        assert codes <= {"invalid", "not_found", "rate_limited", "unauthenticated"}
        await chat.say(5)
        await chat.settled()
