"""HTTP calls of the client library against a server that answers as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from millrace_client import (
    HttpClient,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    ProtocolError,
    RateLimited,
    Refused,
    Unavailable,
    open_http,
)

from tests.scripted import HANG_UP, Scripted, scripted

ANSWER = {"messageId": "m", "conversationId": "c", "seq": 7, "status": "sent", "createdAt": "t"}


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


def problem(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "detail": "because", **more}


async def test_a_message_is_sent_with_one_key_until_its_outcome_is_known(server: Scripted):
    server.answers = [
        HANG_UP,
        (429, {"retry-after": "0"}, problem("rate_limited")),
        (503, {}, problem("unavailable", outcome="unknown")),
        (502, {}, None),
        (200, {"idempotent-replayed": "true"}, ANSWER),
    ]
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        posted = await HttpClient(transport, "token").send("c", "hello")
        assert (posted.message.seq, posted.is_repeat, transport.repeats) == (7, True, 4)
    keys = {body["clientMessageId"] for _, _, body in server.requests}
    assert (len(keys), len(server.requests)) == (1, 5)


async def test_retry_after_is_waited_for(server: Scripted):
    server.answers = [(429, {"retry-after": "1"}, problem("rate_limited")), (201, {}, ANSWER)]
    clock = asyncio.get_running_loop().time
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        began = clock()
        await HttpClient(transport, "token").send("c", "hello")
    assert clock() - began >= 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, problem("not_found"), NotFound),
        (422, problem("invalid", errors=[{"path": "$.content", "message": "expected 1"}]), Invalid),
        (422, problem("idempotency_mismatch"), IdempotencyMismatch),
        (500, problem("internal"), Refused),
        (413, None, Refused),
    ],
)
async def test_a_refusal_is_raised_at_once_as_its_kind(server: Scripted, status: int, body: Any, kind: type):
    server.answers = [(status, {}, body)]
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        with pytest.raises(Refused) as raised:
            await HttpClient(transport, "secret-token").send("c", "secret-content")
    assert (type(raised.value), raised.value.status) == (kind, status)
    assert len(server.requests) == 1
    assert "secret" not in str(raised.value)
    if kind is Invalid:
        assert "$.content: expected 1" in str(raised.value)


async def test_patience_ends(server: Scripted):
    url = f"http://127.0.0.1:{server.port}"
    server.answers = [HANG_UP] * 20
    async with open_http(url, patience_s=0.3) as transport:
        with pytest.raises(Unavailable, match="POST /messages has no answer"):
            await HttpClient(transport, "token").send("c", "hello")
    server.answers = [(429, {"retry-after": "60"}, problem("rate_limited"))]
    async with open_http(url, patience_s=0.3) as transport:
        with pytest.raises(RateLimited) as raised:
            await HttpClient(transport, "token").send("c", "hello")
    assert raised.value.retry_after_s == 60


async def test_a_token_that_has_ended_is_renewed_once(server: Scripted):
    made: list[str] = []

    async def provide() -> str:
        made.append(f"t{len(made)}")
        return made[-1]

    unauthenticated = (401, {}, problem("unauthenticated"))
    server.answers = [unauthenticated, (201, {}, ANSWER), unauthenticated, unauthenticated]
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        client = HttpClient(transport, provide)
        await client.send("c", "hello")
        with pytest.raises(Refused, match="401"):
            await client.send("c", "hello")
    assert [token for _, token, _ in server.requests] == [f"bearer {t}" for t in ("t0", "t1", "t1", "t2")]


async def test_pages_are_read_to_the_end_and_paths_are_quoted(server: Scripted):
    message = {"messageId": "m", "conversationId": "c", "senderId": "u", "type": "text", "content": "x"}
    message |= {"createdAt": "t", "status": "sent"}
    server.answers = [
        (200, {}, {"messages": [{**message, "seq": 1}, {**message, "seq": 2}], "headSeq": 3, "hasMore": True}),
        (200, {}, {"messages": [{**message, "seq": 3}], "headSeq": 3, "hasMore": False}),
    ]
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        client = HttpClient(transport, "token")
        assert [found.seq async for found in client.all_messages("a/b")] == [1, 2, 3]
    lines = [line.split()[1] for line, _, _ in server.requests]
    assert lines == [f"/conversations/a%2Fb/messages?after={after}&limit=200" for after in (0, 2)]


async def test_an_answer_that_is_no_answer_is_said_to_be_none(server: Scripted):
    server.answers = [(201, {}, {"messageId": 5})]
    async with open_http(f"http://127.0.0.1:{server.port}") as transport:
        with pytest.raises(ProtocolError, match="MessageAccepted"):
            await HttpClient(transport, "token").send("c", "hello")
