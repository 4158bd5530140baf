"""Sockets: whose they are, what they may say, and how they end."""

from __future__ import annotations

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters.auth import issue

from .conftest import SECRET, Client


async def test_a_connection_ends_when_its_token_does_unless_it_is_refreshed(world):
    async with world.client(ttl=1) as ends, world.client(ttl=1) as goes_on:
        await goes_on.say(type="auth.refresh", token=issue(SECRET, "bob", ttl_s=60), ref=1)
        assert (await goes_on.next())["type"] == "auth.refreshed"
        assert await ends.closed() == 4401
        await goes_on.say(type="auth.refresh", token=issue(SECRET, "eve", ttl_s=60))
        assert (await goes_on.next())["code"] == "unauthenticated"


@pytest.mark.parametrize("how", ["header", "query", "subprotocol"])
async def test_a_token_comes_in_three_ways(world, how):
    token, url = issue(SECRET, "bob", ttl_s=60), f"ws://127.0.0.1:{world.port}/ws"
    more: dict = {}
    if how == "header":
        more["additional_headers"] = {"Authorization": f"Bearer {token}"}
    elif how == "query":
        url += f"?token={token}"
    else:
        more["subprotocols"] = ["millrace.v1", f"bearer.{token}"]
    async with connect(url, **more) as socket:
        assert orjson.loads(await socket.recv())["userId"] == "bob"
        assert socket.subprotocol == ("millrace.v1" if how == "subprotocol" else None)


async def test_without_a_token_the_error_says_what_to_do_and_the_code_is_4401(world):
    async with connect(f"ws://127.0.0.1:{world.port}/ws") as socket:
        client = Client(socket)
        assert (await client.next())["code"] == "unauthenticated"
        assert await client.closed() == 4401


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/other", None, 404),
        ("/ws", "https://evil.example", 403),
        ("/ws?device=a%20b", None, 422),
        ("/ws?device=", None, 422),
    ],
)
async def test_what_is_no_socket_of_ours_is_refused_by_http(world, path, origin, status):
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{world.port}{path}", origin=origin)
    assert caught.value.response.status_code == status
    assert orjson.loads(caught.value.response.body)["status"] == status


async def test_a_page_of_the_list_may_connect(world):
    async with world.client(origin="https://chat.example"):
        pass


async def test_bad_frames_are_errors_and_too_many_of_them_the_end(world):
    async with world.client() as bob:
        await bob.socket.send("garbage")
        assert (await bob.next())["code"] == "invalid"
        for _ in range(12):
            await bob.socket.send("garbage")
        assert await bob.closed() == 4400


async def test_a_frame_that_is_too_large_ends_the_connection(world):
    async with world.client() as bob:
        await bob.socket.send("x" * 70_000)
        assert await bob.closed() == 1009
