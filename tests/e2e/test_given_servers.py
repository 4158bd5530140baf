"""Processes on servers as companies run them: through PgBouncer, on IPv6, with what is wrong said in one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from adapters.auth import issue
from schemas.ids import new_id
from stack.running import RunningStack
from tests.fault.processes import Extra
from tests.folders import open_folder
from tests.given import bouncer, rows

pytestmark = pytest.mark.slow


@pytest.fixture
async def led(stack: RunningStack) -> AsyncIterator[str]:
    """The stack's PostgreSQL, by way of a PgBouncer in transaction mode that ignores what it can."""
    with open_folder("pgbouncer") as path:
        async with bouncer(path, stack.pg_dsn, "transaction", "ignore_startup_parameters = options") as dsn:
            yield dsn


def extra(stack: RunningStack, folder: Path, name: str, **env: str) -> Extra:
    return Extra(stack, folder, name, node=f"{name}-given-{new_id()[-8:]}", env=env)


async def test_a_message_goes_its_way_by_processes_behind_pgbouncer_that_listen_on_ipv6(
    stack: RunningStack, led: str, tmp_path: Path
):
    given = {"MILLRACE_PG__DSN": led, "MILLRACE_PG__DIRECT_DSN": stack.pg_dsn, "MILLRACE_OPS__HOST": "::"}
    async with AsyncExitStack() as ending:
        ingest = extra(stack, tmp_path, "ingest", MILLRACE_HTTP__HOST="::1", **given)
        gateway = extra(stack, tmp_path, "gateway", MILLRACE_WS__HOST="::", **given)
        for process in (ingest, gateway, search := extra(stack, tmp_path, "search", **given)):
            process.start()
            ending.callback(process.end)
        await asyncio.gather(*(process.ready() for process in (ingest, gateway, search)))
        headers = {"Authorization": f"Bearer {issue(stack.jwt_secret, 'alice', ttl_s=600)}"}
        http = await ending.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://[::1]:{ingest.port}", headers=headers, timeout=10, trust_env=False)
        )
        room = (await http.post("/conversations", json={"members": ["bob"]})).json()["conversationId"]
        answers = await asyncio.gather(
            *(
                http.post("/messages", json={"conversationId": room, "type": "text", "content": f"n{n}"})
                for n in range(7)
            )
        )
        assert [answer.status_code for answer in answers] == [201] * 7
        for host in ("127.0.0.1", "[::1]"):
            url = f"ws://{host}:{gateway.port}/ws"
            async with connect(url, additional_headers=headers, proxy=None) as ws, asyncio.timeout(20):
                await ws.send(json.dumps({"type": "join_conversation", "id": room, "after": 0}))
                seqs: list[int] = []
                while len(seqs) < 7:
                    frame = json.loads(await ws.recv())
                    seqs += [frame["seq"]] if frame["type"] == "new_message" else []
                assert seqs == list(range(1, 8))
        await _published(stack, room)
        assert "Traceback" not in ingest.log + gateway.log + search.log


async def _published(stack: RunningStack, room: str) -> None:
    """Wait until the relay, whoever is it now, owes nothing of the conversation."""
    owed = f"SELECT count(*) FROM outbox WHERE conversation_id = '{room}' AND published_at IS NULL"
    async with asyncio.timeout(20):
        while await rows(stack.pg_dsn, owed) != [(0,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["ingest", "gateway", "search"])
async def test_a_pooler_without_a_direct_way_ends_a_process_with_one_line(
    name: str, stack: RunningStack, led: str, tmp_path: Path
):
    process = extra(stack, tmp_path, name, MILLRACE_PG__DSN=led)
    process.start()
    assert await process.ended(60) == 78
    said = [json.loads(line) for line in process.log.splitlines()]
    [refused] = [line for line in said if line["event"] == "settings_invalid"]
    assert "PgBouncer" in refused["reason"] and "MILLRACE_PG__DIRECT_DSN" in refused["reason"]
    assert "Traceback" not in process.log


async def test_a_wrong_password_is_told_in_the_words_of_the_server(stack: RunningStack, tmp_path: Path):
    wrong = stack.pg_dsn.replace(stack.pg_dsn.split(":")[2].split("@")[0], "not-this-s3cret")
    process = extra(stack, tmp_path, "gateway", MILLRACE_PG__DSN=wrong)
    process.start()
    try:
        async with asyncio.timeout(60):
            while "store_awaited" not in process.log:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        process.end()
    line = next(json.loads(line) for line in process.log.splitlines() if "store_awaited" in line)
    assert "password authentication failed" in line["driver"]
    assert "s3cret" not in process.log and "Traceback" not in process.log
