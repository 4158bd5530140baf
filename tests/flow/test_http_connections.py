"""Connections without number: those without a call make room, an address has its share, and the rest are told."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from ipaddress import ip_address

import pytest

from runtime.http.limits import Connections, HttpLimits
from runtime.http.server import http_server
from tests.flow.http_server import Echo, Server, answer_of, answers, get, open_server
from tests.flow.raw import Raw, open_tcp, until

LIMIT = 20


async def opened(server: Server, stack: AsyncExitStack, count: int, sent: bytes = b"") -> list[Raw]:
    """So many connections that the server has accepted, in order; each has sent these bytes."""
    found = []
    for _ in range(count):
        before = server.bounds.open
        raw = await stack.enter_async_context(open_tcp(server.port))
        raw.send(sent)
        await until(lambda before=before: server.bounds.open > before)
        found.append(raw)
    return found


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_connections_without_a_call_keep_nobody_out(sent):
    async with open_server(max_connections=LIMIT) as server, AsyncExitStack() as stack:
        first, *others = await opened(server, stack, LIMIT, sent)
        await server.serves()
        assert await first.ended() == b""
        await until(lambda: server.bounds.open == LIMIT - 1)
        if sent == b"G":
            others[-1].send(get("/", "Connection: close")[1:])
            [answer] = answers(await others[-1].ended())
            assert answer.status == 200


async def test_those_that_never_made_a_call_make_room_first_then_those_that_are_idle_longest():
    async with open_server(max_connections=3) as server, AsyncExitStack() as stack:
        used, other = await opened(server, stack, 2)
        for raw in (used, other, used):
            raw.send(get())
            assert (await answer_of(raw)).status == 200
        [silent] = await opened(server, stack, 1)
        await server.serves()
        assert await silent.ended() == b""
        await opened(server, stack, 1, b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.app.held == 1)
        await server.serves()
        assert await other.ended() == b""
        used.send(get())
        assert (await answer_of(used)).status == 200


async def test_a_node_full_of_calls_answers_503_and_none_of_the_calls_suffers():
    async with open_server(max_connections=LIMIT) as server, AsyncExitStack() as stack:
        busy = await opened(server, stack, LIMIT, get("/held", "Connection: close"))
        await until(lambda: server.app.held == LIMIT)
        async with open_tcp(server.port) as raw:
            raw.send(get())
            [answer] = answers(await raw.ended())
            assert (answer.status, answer.problem()) == (503, "unavailable")
        server.app.release.set()
        for raw in busy:
            assert answers(await raw.ended())[0].body == b"GET /held 127.0.0.1 0"
        await server.empty()


async def test_refused_connections_are_counted_too_and_beyond_them_nobody_is_answered():
    async with open_server(max_connections=1) as server, AsyncExitStack() as stack:
        await opened(server, stack, 1, get("/held"))
        await until(lambda: server.app.held == 1)
        coming = [await stack.enter_async_context(open_tcp(server.port)) for _ in range(150)]
        ended = await asyncio.gather(*(raw.ended() for raw in coming))
        assert sum(data.startswith(b"HTTP/1.1 503 ") for data in ended) == 100
        assert ended.count(b"") == 50


async def test_an_address_has_its_share_and_others_have_theirs():
    async with open_server(connections_per_address=3) as server, AsyncExitStack() as stack:
        held = await opened(server, stack, 3, get("/held"))
        async with open_tcp(server.port) as raw:
            [answer] = answers(await raw.ended())
            assert (answer.status, answer.problem()) == (429, "rate_limited")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        writer.write(get("/other", "Connection: close"))
        assert answers(await reader.read())[0].body == b"GET /other 127.0.0.2 0"
        writer.close()
        held[0].writer.transport.abort()
        server.app.release.set()
        await until(lambda: server.bounds.open == 2)
        await server.serves()


async def test_a_trusted_proxy_has_no_share_of_an_address():
    async with open_server(connections_per_address=1, proxies="127.0.0.1") as server, AsyncExitStack() as stack:
        assert server.bounds.proxies.trusts(ip_address("127.0.0.1"))
        for raw in await opened(server, stack, 5):
            raw.send(get())
            assert (await answer_of(raw)).status == 200


async def test_a_process_that_may_open_few_files_has_fewer_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bounds = Connections(HttpLimits(max_connections=hard))
    try:
        async with http_server(Echo(), "127.0.0.1", 0, bounds):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
            assert bounds.limits.max_connections == hard - 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
