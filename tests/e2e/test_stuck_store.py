"""A store that is slow, locked, stuck or full of callers: every call is answered, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import psycopg
import pytest

from schemas.ids import new_id
from stack.ports import allot
from stack.running import RunningStack

from .conftest import ROOT, Person, process, until

CALLS = [
    ("GET", "/conversations", None),
    ("POST", "/conversations", {"members": []}),
    ("GET", "/conversations/{room}", None),
    ("POST", "/conversations/{room}/members", {"userId": "zoe"}),
    ("DELETE", "/conversations/{room}/members/zoe", None),
    ("GET", "/conversations/{room}/messages", None),
    ("GET", "/conversations/{room}/analytics", None),
    ("POST", "/messages", {"conversationId": "{room}", "type": "text", "content": "hi"}),
    ("GET", "/messages/{message}", None),
    ("GET", "/messages/{message}/receipts", None),
    ("GET", "/search?q=hi", None),
    ("GET", "/notifications", None),
    ("POST", "/notifications/seen", {"upTo": "{room}"}),
    ("GET", "/media/{room}", None),
]


@contextmanager
def frozen(stack: RunningStack) -> Iterator[None]:
    """PostgreSQL stands still, all its processes."""
    server = process(stack, "postgres")["pid"]
    pids = [server, *children(server)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


async def ask(person: Person, calls: list[tuple], room: str, message: str = "") -> list[tuple[str, int, float, dict]]:
    """All calls at once: path, status, seconds, body."""

    def filled(text: str) -> str:
        return text.replace("{room}", room).replace("{message}", message)

    async with httpx2.AsyncClient(
        base_url=person.http.base_url,
        headers=person.http.headers,
        timeout=20,
        limits=httpx2.Limits(max_connections=200),
    ) as client:

        async def one(method: str, path: str, body: dict | None) -> tuple[str, int, float, dict]:
            said = {k: filled(v) if isinstance(v, str) else v for k, v in body.items()} if body else None
            began = time.monotonic()
            answer = await client.request(method, filled(path), json=said)
            return path, answer.status_code, time.monotonic() - began, answer.json() if answer.content else {}

        return list(await asyncio.gather(*(one(*call) for call in calls)))


def pools(stack: RunningStack) -> dict[str, float]:
    """Both pools of ingest: connections, idle ones, requests that wait."""
    text = httpx2.get(f"http://127.0.0.1:{process(stack, 'ingest')['opsPort']}/metrics").text
    lines = [line.split() for line in text.splitlines() if line.startswith("millrace_pg_")]
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in lines:
        found[name.removeprefix("millrace_pg_").partition("{")[0]] += float(value)
    return found


def is_whole(stack: RunningStack) -> bool:
    now = pools(stack)
    return now["connections"] == now["idle_connections"] >= 4 and now["waiting_requests"] == 0


@pytest.fixture
def alice(stack: RunningStack, person) -> Person:
    alice: Person = person("alice")
    until(lambda: is_whole(stack))
    return alice


async def test_every_call_is_answered_while_the_store_stands_still(stack: RunningStack, alice: Person):
    room = alice.create()
    message = alice.send(room)["messageId"]
    with frozen(stack):
        answers = await ask(alice, CALLS, room, message)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):  # and callers that go away
                await ask(alice, [("GET", "/conversations", None)] * 150, room)
    # Of one user eight calls are under way at a time; those that wait for them are told so after a second.
    assert {path: status for path, status, _, _ in answers if status not in (429, 503)} == {}
    assert max(seconds for _, _, seconds, _ in answers) < 3.0
    codes = [body["code"] for *_, body in answers]
    assert set(codes) <= {"unavailable", "rate_limited"}
    assert codes.count("unavailable") >= 8
    assert all(
        "outcome" not in body for (method, *_), (*_, body) in zip(CALLS, answers, strict=True) if method == "GET"
    )
    until(lambda: is_whole(stack))
    missing = ("/media/{room}", "/notifications/seen")  # no file, and no notification, has the id of a room
    again = await ask(alice, [call for call in CALLS if call[1] not in missing], room, message)
    assert {path: status for path, status, _, _ in again if status >= 300} == {}


async def test_callers_beyond_the_pool_are_told_early(stack: RunningStack, alice: Person):
    room = alice.create()
    with psycopg.connect(stack.pg_dsn) as other:
        other.execute("LOCK TABLE conversations")
        answers = await ask(alice, [("GET", "/conversations", None)] * 80, room)
        other.rollback()
    statuses = [status for _, status, _, _ in answers]
    assert set(statuses) == {429, 503}
    assert statuses.count(503) >= 8  # those under way, and those whose turn has come
    assert statuses.count(429) >= 64
    assert max(seconds for _, status, seconds, _ in answers if status == 429) < 2.4
    assert max(seconds for _, _, seconds, _ in answers) < 3.0
    until(lambda: is_whole(stack))


async def test_calls_that_wait_for_the_store_hold_up_no_message(stack: RunningStack, alice: Person):
    room = alice.create()
    alice.send(room)
    with psycopg.connect(stack.pg_dsn) as other:
        other.execute("LOCK TABLE notifications")
        waiting = asyncio.create_task(ask(alice, [("GET", "/notifications", None)] * 80, room))
        while not pools(stack)["waiting_requests"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert alice.send(room)["seq"] == 2
        other.rollback()
    await waiting
    until(lambda: is_whole(stack))


async def test_a_held_conversation_stops_no_other(stack: RunningStack, alice: Person):
    held, *others = (alice.create() for _ in range(6))

    def post(room: str) -> tuple[str, str, dict]:
        return "POST", "/messages", {"conversationId": room, "type": "text", "content": "hi"}

    with psycopg.connect(stack.pg_dsn) as other:
        other.execute("SELECT 1 FROM conversations WHERE conversation_id = %s FOR UPDATE", [held])
        answers = await ask(alice, [post(room) for room in (held, *others) for _ in range(10)], "")
        other.rollback()
    assert {status for _, status, _, _ in answers[:10]} == {503}
    assert max(seconds for _, _, seconds, _ in answers[:10]) < 3.0
    assert {status for _, status, _, _ in answers[10:]} == {201}
    assert max(seconds for _, _, seconds, _ in answers[10:]) < 0.9
    [(_, status, _, _)] = await ask(alice, [post(held)], "")
    assert status == 201


@pytest.fixture
def second_ingest(stack: RunningStack, tmp_path: Path) -> Iterator[str]:
    """One more ingest on the same servers; its URL."""
    ports = allot(["http", "ops"], {}, {})
    env = {
        **os.environ,
        "MILLRACE_NODE": "ingest-test",
        "MILLRACE_LIMITS__FACTORS": "*=10",  # as the stack has it
        "MILLRACE_PG__DSN": stack.pg_dsn,
        "MILLRACE_KAFKA__BOOTSTRAP": stack.kafka.bootstrap,
        "MILLRACE_REDIS__URL": stack.redis_url,
        "MILLRACE_AUTH__SECRET": stack.jwt_secret,
        "MILLRACE_HTTP__PORT": str(ports["http"]),
        "MILLRACE_OPS__PORT": str(ports["ops"]),
        "MILLRACE_DATA_DIR": str(tmp_path),
    }
    with (tmp_path / "ingest.log").open("ab") as log:
        running = subprocess.Popen([sys.executable, "-m", "ingest"], env=env, cwd=ROOT, stdout=log, stderr=log)

    def ready() -> bool:
        assert running.poll() is None, (tmp_path / "ingest.log").read_text()[-2000:]
        with suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{ports['ops']}/readyz").status_code == 200
        return False

    try:
        until(ready)
        yield f"http://127.0.0.1:{ports['http']}"
    finally:
        running.terminate()
        running.wait(25)


async def test_parallel_retries_of_one_key_make_one_message_also_across_processes(
    stack: RunningStack, alice: Person, second_ingest: str
):
    room = alice.create()
    headers = dict(alice.http.headers)
    limits = httpx2.Limits(max_connections=100)
    async with (
        httpx2.AsyncClient(base_url=stack.http_url, headers=headers, limits=limits) as one,
        httpx2.AsyncClient(base_url=second_ingest, headers=headers, limits=limits) as two,
    ):

        async def post(number: int, key: str) -> tuple[int, str, int]:
            body = {"conversationId": room, "type": "text", "content": f"said {key}", "clientMessageId": key}
            answer = await (one, two)[number % 2].post("/messages", json=body)
            assert answer.status_code in (200, 201), answer.text
            return answer.status_code, answer.json()["messageId"], answer.json()["seq"]

        for _ in range(10):
            key = new_id()
            answers = await asyncio.gather(*(post(n, key) for n in range(20)))
            assert len({(id_, seq) for _, id_, seq in answers}) == 1
            assert sorted(status for status, _, _ in answers) == [200] * 19 + [201]
        await asyncio.gather(*(post(n, new_id()) for n in range(100)))  # a hot conversation, from both at once
    page = alice.http.get(f"/conversations/{room}/messages?limit=200").json()
    assert [m["seq"] for m in page["messages"]] == list(range(1, 111))
