"""Calls of nobody, calls beyond a rate, and calls while something behind them is away or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.auth import issue
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from domain.errors import OutcomeUnknown, Unavailable
from domain.identity import Identity
from ingest.accept import Accept
from ingest.http.middleware import CallMiddleware
from schemas.operations import Operation
from schemas.routes import OPERATIONS
from tests import make
from tests.flow.api import SECRET, Api, open_api

WITH_TOKEN = pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.access == "token"], ids=lambda operation: operation.id
)
MESSAGE = {"conversationId": make.ROOM, "type": "text", "content": "hi"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


def code(operation: Operation, answer: httpx2.Response) -> str:
    """The code of a problem; that of a HEAD is not told."""
    return "" if operation.method == "HEAD" else answer.json()["code"]


@WITH_TOKEN
async def test_a_call_without_a_token_that_holds_is_refused(api, operation):
    token = issue(SECRET, "alice", ttl_s=60)
    for given in ({}, {"authorization": "Bearer x.y.z"}, {"authorization": token}, {"authorization": "Bearer "}):
        answer = await api.call(operation.id, 401, user=None, headers=given)
        is_token = given.get("authorization") == "Bearer x.y.z"
        assert answer.headers["www-authenticate"] == ('Bearer error="invalid_token"' if is_token else "Bearer")
        assert code(operation, answer) in ("unauthenticated", "")
    answer = await api.http.request("GET", "/conversations", headers=[("authorization", f"Bearer {token}")] * 2)
    assert answer.status_code == 401


@WITH_TOKEN
async def test_a_call_whose_token_cannot_be_checked_now_may_be_repeated(tmp_path, operation):
    async def verify(_: str) -> Identity:
        raise Unavailable("the issuer does not answer; try again")

    async with open_api(tmp_path, verify=verify) as api:
        answer = await api.call(operation.id, 503)
        assert answer.headers["retry-after"] == "1"
        assert code(operation, answer) in ("unavailable", "")


@WITH_TOKEN
async def test_a_bug_is_a_500_without_its_cause(tmp_path, operation):
    async def verify(_: str) -> Identity:
        raise ZeroDivisionError("my-secret")

    async with open_api(tmp_path, verify=verify) as api:
        answer = await api.call(operation.id, 500)
        assert "my-secret" not in answer.text


@pytest.mark.parametrize(("exc", "outcome"), [(Unavailable("x"), None), (OutcomeUnknown("x"), "unknown")])
async def test_a_message_that_may_be_stored_is_told_from_one_that_is_not(tmp_path, exc, outcome):
    class Failing(MemoryIntake):
        async def accept_plain(self, *_: Any) -> Any:
            raise exc

    async with open_api(tmp_path, accept=Accept(Failing(Tables()), lambda _: None)) as api:
        answer = await api.call("sendMessage", 503, json=MESSAGE)
        assert answer.headers["retry-after"] == "1"
        assert (answer.json()["code"], answer.json().get("outcome")) == ("unavailable", outcome)


class Hanging:
    """A store that does not answer until it ends."""

    def __init__(self) -> None:
        self.ends = asyncio.Event()

    async def record(self, _: Any) -> None:
        await self.ends.wait()

    async def membership(self, *_: Any) -> None:
        await self.ends.wait()


@pytest.mark.parametrize(
    ("operation", "more", "outcome"),
    [("listMessages", {}, None), ("recordReceipt", {"json": {"readSeq": 1}}, "unknown")],
)
async def test_a_store_that_hangs_is_a_503_in_time(tmp_path, operation, more, outcome):
    store = Hanging()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            store.ends.set()  # the late answer goes nowhere
            await send(message)

        await CallMiddleware(served.app, "/media", seconds=0.05)(scope, receive, sending)

    async with open_api(tmp_path, history=store, receipts=store) as served:
        served.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://api")
        async with asyncio.timeout(2), served.http:
            answer = await served.call(operation, 503, **more)
        assert (answer.json()["code"], answer.json().get("outcome")) == ("unavailable", outcome)
        assert answer.headers["retry-after"] == "1"


async def test_a_path_or_method_that_there_is_not_is_a_problem_too(api):
    token = {"authorization": f"Bearer {issue(SECRET, 'alice', ttl_s=60)}"}
    missing = await api.http.get("/nothing", headers=token)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await api.http.put("/messages", headers=token)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert {missing.headers["content-type"], wrong.headers["content-type"]} == {"application/problem+json"}


class HeldConversations(MemoryConversations):
    """Conversations whose store creates none until it is let go."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.go = asyncio.Event()

    async def create(self, *args: Any, **more: Any) -> bool:
        await self.go.wait()
        return await super().create(*args, **more)


async def test_calls_of_one_user_that_are_under_way_hold_up_neither_messages_nor_others(tmp_path):
    held = HeldConversations(Tables())
    async with open_api(tmp_path, calls_per_user=8, messages_per_user=8, conversations=held) as api:
        creating = [asyncio.create_task(create(api)) for _ in range(100)]
        done: set[asyncio.Task[httpx2.Response]] = set()
        async with asyncio.timeout(10):
            while len(done) < 84:
                done, _ = await asyncio.wait(set(creating), return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
        for task in done:
            answer = task.result()
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert int(answer.headers["retry-after"]) >= 1
        await api.call("sendMessage", 201, user="bob", json=MESSAGE)
        await api.call("listConversations", 200, user="alice")
        held.go.set()
        await asyncio.wait(creating)
        assert {task.result().status_code for task in creating if task not in done} <= {201, 429}
        assert [task.result().status_code for task in creating].count(201) >= 8


async def create(api: Api) -> httpx2.Response:
    headers = {"authorization": f"Bearer {issue(SECRET, 'bob', ttl_s=60)}"}
    return await api.http.post("/conversations", json={}, headers=headers)


async def test_a_trailing_slash_is_no_redirect_to_a_host_that_the_caller_names(api):
    for method in ("GET", "POST"):
        answer = await api.http.request(method, "/messages/", headers={"host": "evil.example"})
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert answer.json()["code"] == "not_found"
