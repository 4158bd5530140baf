"""HAProxy and NGINX with the files of deploy/, before a gateway on twins and ingests that note what reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters.auth import issue
from tests.flow.stand import Stand, standing
from tests.fronts import KINDS

from .conftest import SECRET, Client

TEN_SECONDS = {
    "haproxy": ("timeout http-request 10s", "wait-for-body time 10s"),
    "nginx": ("client_header_timeout 10s", "client_body_timeout 10s"),
}
SOON = {kind: {said: said.replace("10s", "1s") for said in those} for kind, those in TEN_SECONDS.items()}


@pytest.fixture(params=KINDS)
async def stand(request: pytest.FixtureRequest, tmp_path: Path, world: Any) -> AsyncIterator[Stand]:
    async with standing(request.param, tmp_path, world.port) as made:
        yield made


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == answer.status_code
    assert said["type"].endswith(said["code"])
    return answer.status_code, said["code"]


async def alone(stand: Stand, method: str, path: str, **more: Any) -> httpx2.Response:
    """Asked on a connection of its own: one that has served before, HAProxy closes instead of answering 502."""
    async with httpx2.AsyncClient(base_url=stand.front.http_url, timeout=10) as http:
        return await http.request(method, path, **more)


async def declared(stand: Stand, method: str, path: str, length: int) -> bytes:
    """The answer to a request whose body does not come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.front.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        said = await reader.readuntil(b"}")
    writer.close()
    return said


async def eventually(condition: Callable[[], Any], seconds: float = 10) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def test_sockets_and_requests_pass_and_no_log_holds_a_token(stand: Stand, world: Any):
    token = issue(SECRET, "bob", ttl_s=60)
    for _ in range(6):  # some of them by way of a node that refuses
        async with connect(f"{stand.front.ws_url}?token={token}", compression=None) as socket:
            client = Client(socket)
            await client.next("connected")
            await client.join(after=0)
            seq = await world.send()
            assert (await client.next("new_message"))["seq"] == seq
    offered = ["millrace.v1", f"bearer.{token}"]
    async with connect(stand.front.ws_url, subprotocols=offered, origin="https://chat.example") as socket:
        assert orjson.loads(await socket.recv())["type"] == "connected"
        assert socket.subprotocol == "millrace.v1"
    answer = await stand.http.get("/search?q=canary", headers={"Authorization": f"Bearer {token}"})
    assert answer.text == "ok"
    await eventually(lambda: len(stand.front.lines) >= 8)
    assert any("/ws" in line for line in stand.front.lines)
    assert token not in stand.front.log
    assert "canary" not in stand.front.log


async def test_no_log_holds_a_token_when_no_node_answers(stand: Stand, world: Any):
    world.gateway.draining = True
    for ingest in stand.ingests:
        ingest.dies = True
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{stand.front.ws_url}?token=canary")
    assert caught.value.response.status_code in (502, 503)
    assert problem(await stand.http.get("/search?q=canary"))[1] == "unavailable"
    await eventually(lambda: len(stand.front.lines) >= 2)
    assert "canary" not in stand.front.log


async def test_who_asks_is_said_by_the_front_alone(stand: Stand):
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
    await stand.http.get("/conversations", headers={**lies, "X-Forwarded-Proto": "https"})
    [head] = stand.heard
    assert "6.6.6.6" not in head
    assert "x-forwarded-for: 127.0.0.1" in head.lower()
    assert "x-forwarded-proto: http\r" in head.lower()


async def test_what_may_have_happened_is_not_sent_again(stand: Stand):
    for ingest in stand.ingests:
        ingest.dies = True
    answer = await alone(stand, "POST", "/messages", json={"clientMessageId": "k"})
    assert problem(answer) == (502, "unavailable")
    assert (answer.json()["outcome"], len(stand.heard)) == ("unknown", 1)
    answer = await alone(stand, "POST", "/conversations", json={}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, len(stand.heard)) == (502, 2)
    answer = await alone(stand, "PATCH", "/media/1", content=b"part")
    assert (answer.status_code, len(stand.heard)) == (502, 3)


async def test_what_changes_nothing_is_asked_of_another_node(stand: Stand):
    stand.ingests[0].dies = True
    answers = [(await stand.http.get(f"/conversations?n={n}")).status_code for n in range(4)]
    assert answers == [200] * 4


async def test_a_message_is_left_to_its_sender_to_repeat(stand: Stand):
    """A second node that answers a plain 503 would say that nothing is stored; the first may have stored it."""
    stand.ingests[0].dies = True
    key = {"Idempotency-Key": "k"}
    answers = [await alone(stand, "POST", "/messages", json={}, headers=key) for _ in range(4)]
    lost = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in answers} == {200, 502}
    assert len(lost) == len(stand.ingests[0].heard)
    assert {answer.json()["outcome"] for answer in lost} == {"unknown"}


async def test_large_bodies_and_many_handshakes_stop_at_the_front(stand: Stand, tmp_path: Path, world: Any):
    for method, path, length in (("POST", "/messages", 200_000), ("PATCH", "/media/1", 35_000_000)):
        said = await declared(stand, method, path, length)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"payload_too_large"' in said
    assert stand.heard == []
    # The same file, with fewer handshakes.
    changes = {"haproxy": {}, "nginx": {"burst=100": "burst=5"}}[stand.front.kind]
    folder = tmp_path / "few"
    folder.mkdir()
    more = {"changes": changes, "env": {"FRONT_HANDSHAKES": "5"}}
    async with standing(stand.front.kind, folder, world.port, **more) as few:
        answers = [await few.http.get("/ws?token=x") for _ in range(10)]
        assert {each.status_code for each in answers[:3]} == {426}
        assert problem(answers[-1]) == (429, "rate_limited")
        assert answers[-1].headers["retry-after"]
        assert (await few.http.get("/conversations")).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
async def test_slow_requests_are_cut_before_a_node_hears_of_them(kind: str, tmp_path: Path, world: Any):
    async with standing(kind, tmp_path, world.port, changes=SOON[kind]) as stand:
        headers = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConn"
        body = b"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        for said in await asyncio.gather(cut(stand, headers), cut(stand, body)):
            assert said == b"" or said.startswith(b"HTTP/1.1 408 ")
        assert stand.heard == []


async def cut(stand: Stand, begun: bytes) -> bytes:
    """What the front says to a request that does not go on, before it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.front.port)
    writer.write(begun)
    said = b""
    async with asyncio.timeout(8):
        with suppress(ConnectionResetError):
            said = await reader.read()
    writer.close()
    return said


async def test_a_node_that_is_not_ready_is_not_asked(tmp_path: Path, world: Any):
    """NGINX without its paid part does not look; a node of ours that leaves closes its port."""
    async with standing("haproxy", tmp_path, world.port) as stand:
        leaving, other = stand.ingests
        leaving.ready = False
        await eventually(lambda: "ingest/ingest-1 is DOWN" in stand.front.log)
        for _ in range(6):
            await stand.http.get("/conversations")
        assert (len(leaving.heard), len(other.heard)) == (0, 6)
        leaving.ready = True
        await eventually(lambda: "ingest/ingest-1 is UP" in stand.front.log)


async def test_the_front_says_whether_it_can_serve(tmp_path: Path, world: Any):
    async with standing("haproxy", tmp_path, world.port) as stand:
        ops = f"http://127.0.0.1:{stand.front.ops_port}"
        async with httpx2.AsyncClient(base_url=ops) as operator:
            assert (await operator.get("/readyz")).status_code == 200
            assert "haproxy_server_status" in (await operator.get("/metrics")).text
            for ingest in stand.ingests:
                ingest.ready = False
            await eventually(lambda: "backend 'ingest' has no server available" in stand.front.log)
            assert (await operator.get("/readyz")).status_code == 503
        assert problem(await stand.http.get("/conversations")) == (503, "unavailable")
