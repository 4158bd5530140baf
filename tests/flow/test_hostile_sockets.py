"""Connections that want to cost more than they may: each is refused or cut, and the others are served."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters.auth import issue
from domain.addresses import Proxies
from gateway.limits import Limits
from gateway.send_queue import HARD_MAX
from runtime.http.refusals import MAX_HEAD
from tests import make

from . import raw
from .conftest import SECRET, Client, World, open_world
from .raw import PING, TEXT, frame, until

CLIENT_HELLO = bytes.fromhex("16030100ba010000b60303") + bytes(range(176))


async def serves(world: World) -> None:
    async with world.client("carol") as other:
        await other.say(type="ping")
        assert (await other.next())["type"] == "pong"


# the handshake


async def test_a_handshake_of_a_byte_at_a_time_is_cut():
    async with open_world(limits=Limits(handshake_timeout_s=0.5)) as world, raw.open_tcp(world.port) as slow:
        ended = asyncio.create_task(slow.ended())
        for byte in raw.request(world.port):
            slow.send(bytes([byte]))
            await asyncio.sleep(0.02)
            if ended.done():
                break
        assert ended.done(), "it was let in"
        await serves(world)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /ws HTTP/1.1\r\n" + b"".join(b"A%d: %s\r\n" % (n, b"x" * 4000) for n in range(9)), b"431"),
        (b"GET /ws HTTP/1.1\r\nCookie: " + b"x" * 9000, b"431"),
        (b"GET /ws HTTP/1.1\r\n" + b"A: b\r\n" * 200, b"431"),
        (b"GET /ws?token=" + b"x" * 9000, b"414"),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", b"426"),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b""),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
        (CLIENT_HELLO, b""),
        (CLIENT_HELLO + b"\n" * 100, b""),
        (b"\0" * (MAX_HEAD + 1), b"431"),
        (b"\r\n\r\n", b""),
    ],
)
async def test_what_is_no_handshake_is_answered_or_dropped(caplog, sent, status):
    async with open_world(limits=Limits(handshake_timeout_s=0.5)) as world, raw.open_tcp(world.port) as stranger:
        stranger.send(sent)
        answer = await stranger.ended()
        assert answer[9:12] == status, answer[:200]
        stranger.writer.close()
        await until(lambda: world.gateway.admission.open == 0)
        await serves(world)
    assert "Traceback" not in caplog.text


async def test_a_client_that_ends_its_side_is_let_go(world):
    async with raw.open_raw(world.port) as half:
        half.writer.write_eof()
        await half.ended()
        await until(lambda: world.gateway.admission.open == 0)


# too many


async def refused(world: World, user: str = "bob", **headers: str) -> tuple[int, dict, str]:
    given = {"Authorization": f"Bearer {issue(SECRET, user, ttl_s=60)}", **headers}
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{world.port}/ws", additional_headers=given)
    answer = caught.value.response
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, orjson.loads(answer.body), answer.headers["Retry-After"]


async def test_a_full_node_says_so_and_when_to_come_back():
    async with open_world(limits=Limits(max_connections=1)) as world:
        async with world.client():
            status, problem, retry = await refused(world)
            assert (status, problem["code"], problem["status"], int(retry) > 0) == (503, "unavailable", 503, True)
        await until(lambda: world.gateway.admission.open == 0)
        await serves(world)


async def test_an_address_that_has_too_many_is_told_by_http():
    limits = Limits(connections_per_address=2)
    async with open_world(limits=limits) as world, world.client(), world.client():
        status, problem, retry = await refused(world)
        assert (status, problem["code"], int(retry) > 0) == (429, "rate_limited", True)


async def test_an_address_that_comes_too_often_is_told_by_http():
    async with open_world(limits=Limits(connects_per_s_address=0.2)) as world:
        for _ in range(2):
            async with world.client():
                pass
        assert (await refused(world))[0] == 429


async def test_a_storm_through_a_trusted_proxy_is_counted_by_its_clients():
    limits = Limits(connections_per_address=5, connects_per_s_address=1, connections_per_user=0, connects_per_s_user=0)
    async with open_world(limits=limits, proxies=Proxies.of("127.0.0.1")) as world:

        async def come(n: int) -> None:
            async with raw.open_raw(world.port, X_Forwarded_For=f"198.51.100.1, 192.0.2.{n % 50}"):
                pass

        await asyncio.gather(*(come(n) for n in range(150)))
        for _ in range(5):
            async with raw.open_raw(world.port, X_Forwarded_For="203.0.113.9"):
                pass
        held = [raw.open_raw(world.port, X_Forwarded_For="203.0.113.8") for _ in range(5)]
        for each in held:
            await each.__aenter__()
        assert (await refused(world, **{"X-Forwarded-For": "203.0.113.8"}))[0] == 429
        assert (await refused(world, **{"X-Forwarded-For": "1.2.3.4, 203.0.113.8"}))[0] == 429
        for each in held:
            await each.__aexit__(None, None, None)
        await until(lambda: world.gateway.admission.open == 0)
        assert not world.gateway.admission.addresses._counts


@pytest.mark.parametrize("limits", [Limits(connections_per_user=2), Limits(connects_per_s_user=0.2)])
async def test_a_user_with_too_many_is_told_by_a_frame_and_4429(limits):
    async with open_world(limits=limits) as world, world.client(), world.client(), world.client("carol"):
        headers = {"Authorization": f"Bearer {issue(SECRET, 'bob', ttl_s=60)}"}
        async with connect(f"ws://127.0.0.1:{world.port}/ws", additional_headers=headers) as socket:
            one_more = Client(socket)
            said = await one_more.next()
            assert (said["type"], said["code"], said["retryAfterMs"] > 0) == ("error", "rate_limited", True)
            assert await one_more.closed() == 4429


# floods


async def test_a_flood_of_pings_is_ended(world):
    async with raw.open_raw(world.port) as flood:
        flood.send(frame(PING, b"x" * 100) * 20_000)
        assert await flood.closed() == 4429
        await serves(world)


async def test_pings_whose_answers_are_not_read_cost_no_memory():
    async with open_world(limits=Limits(frames_per_s=0)) as world, raw.open_raw(world.port, receive=4096) as flood:
        flood.reader._limit = 1  # type: ignore[attr-defined]  # it takes nothing
        [connection] = world.gateway.connections.values()
        most, pings = 0, frame(PING, b"x" * 125) * 500
        while world.gateway.connections:
            flood.send(pings)
            await asyncio.sleep(0)
            most = max(most, connection.queue.waiting)
        assert most < HARD_MAX + 2 * 65_536 * 4
        await serves(world)


async def test_questions_whose_answers_are_not_read_cost_no_memory():
    async with open_world(limits=Limits(frames_per_s=0)) as world, raw.open_raw(world.port, receive=4096) as flood:
        [connection] = world.gateway.connections.values()
        most, asked = 0, frame(TEXT, orjson.dumps({"type": "ping", "ref": "x" * 100})) * 200
        while world.gateway.connections:
            flood.send(asked)
            await asyncio.sleep(0)
            most = max(most, connection.queue.waiting)
        assert most < HARD_MAX
        await serves(world)


@pytest.mark.parametrize("payload", [b"", b"x" * 100], ids=["empty", "small"])
async def test_a_message_without_end_is_ended(world, payload):
    async with raw.open_raw(world.port) as flood:
        flood.send(frame(TEXT, b"", fin=False))
        flood.send(frame(0, payload, fin=False) * 5000)
        assert await flood.closed() in (1009, 4429)
        await serves(world)


async def test_joins_are_bounded_before_they_reach_the_store():
    async with open_world(limits=Limits(joins_per_s=0.1, max_subscriptions=5)) as world, world.client() as bob:
        for _ in range(5):
            await bob.join()
        await bob.say(type="join_conversation", id=make.ROOM, ref="one more")
        said = await bob.next("error", "joined")
        assert (said["type"], said["code"], said["ref"]) == ("error", "rate_limited", "one more")
