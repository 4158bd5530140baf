"""Requests without measure, by every part and at every pace: a problem, the end of the connection, and nobody else
notices."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.http.protocol import BoundedProtocol
from runtime.http.refusals import MAX_HEAD, MAX_HEADERS
from tests.checkout import ROOT
from tests.flow.http_server import Server, answer_of, answers, chunked, get, open_server, post, request
from tests.flow.raw import open_tcp, until

MIB = 1 << 20
FILLING = b"x" * 65_536

ENDLESS = {
    "a target": (b"GET /", b"x", 414),
    "a query": (b"GET /?", b"x", 414),
    "a method": (b"", b"G", 400),
    "a name": (b"GET / HTTP/1.1\r\n", b"x", 431),
    "a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"x", 431),
    "blanks before a value": (b"GET / HTTP/1.1\r\nA:", b" ", 431),
    "lines": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n", 431),
    "blank lines before a request": (b"", b"\r\n", 431),
    "a trailer": (chunked(b"0\r\nA: "), b"x", 431),
    "trailers": (chunked(b"0\r\n"), b"A: b\r\n", 431),
    "a chunk extension": (chunked(b"1;"), b"x", 431),
    "the value of a chunk extension": (chunked(b"1;a="), b"x", 431),
    "a quoted chunk extension": (chunked(b'1;a="'), b"x", 431),
    "the extensions of small chunks": (chunked(b""), b"1;" + b"x" * 100 + b"\r\nb\r\n", 431),
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server() as opened:
        yield opened


@pytest.mark.parametrize("part", ENDLESS)
async def test_a_part_without_end_is_refused_as_a_problem(server, part):
    begin, more, status = ENDLESS[part]
    async with open_tcp(server.port) as raw:
        raw.send(begin + more * (MIB // len(more)))
        await server.serves()
        [answer] = answers(await raw.ended())
        assert answer.status == status
        assert answer.problem() == ("bad_request" if status == 400 else "headers_too_large")
    await server.empty()


@pytest.mark.parametrize("size", [MAX_HEAD, MAX_HEAD + 1])
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_limit_of_a_head_is_exact(server, size, at_once):
    head = get("/", "Connection: close", "A: ")
    head = head[:-4] + b"x" * (size - len(head)) + b"\r\n\r\n"
    async with open_tcp(server.port) as raw:
        if at_once:
            raw.send(head)
        else:
            for start in range(0, size, 5000):
                raw.send(head[start : start + 5000])
                await raw.writer.drain()
        [answer] = answers(await raw.ended())
    assert answer.status == (200 if size == MAX_HEAD else 431)


@pytest.mark.parametrize("count", [MAX_HEADERS, MAX_HEADERS + 1])
async def test_the_number_of_headers_is_limited(server, count):
    lines = [f"A{number}: b" for number in range(count - 2)]
    [answer] = await server.ask(get("/", "Connection: close", *lines))
    assert answer.status == (200 if count == MAX_HEADERS else 431)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_body_in_small_chunks_is_a_body(server, size):
    body = b"%x\r\n%s\r\n" % (size, b"x" * size) * 50_000 + b"0\r\n\r\n"
    [answer] = await server.ask(chunked(body, "Connection: close"))
    assert answer.body == b"POST / 127.0.0.1 %d" % (size * 50_000)


async def test_trailers_are_no_headers(server):
    [answer] = await server.ask(chunked(b"0\r\nAuthorization: Bearer x\r\n\r\n", "Connection: close"))
    assert answer.status == 200
    assert b"authorization" not in dict(server.app.headers)


SLOW = {
    "a head": (b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"x"),
    "a target": (b"GET /", b"x"),
    "lines": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"),
    "a head of which nothing more comes": (b"G", b""),
    "a body": (request("POST / HTTP/1.1", "Host: x", "Content-Length: 100000"), b"x"),
    "a body of which nothing comes": (request("POST / HTTP/1.1", "Host: x", "Content-Length: 100000"), b""),
    "chunks": (chunked(b""), b"1\r\nx\r\n"),
    "a chunk extension": (chunked(b"1;"), b"x"),
    "trailers": (chunked(b"0\r\n"), b"A: b\r\n"),
    "a head after a call": (get() + b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"x"),
    "a body after a call": (get() + request("POST / HTTP/1.1", "Host: x", "Content-Length: 100000"), b"x"),
}


@pytest.mark.parametrize("part", SLOW)
async def test_a_part_that_comes_too_slowly_is_refused_as_a_problem(part):
    begin, more = SLOW[part]
    async with open_server(request_timeout_s=0.5, keep_alive_s=60) as server, open_tcp(server.port) as raw:
        raw.send(begin)
        ended = asyncio.create_task(raw.ended(30))
        while not ended.done() and more:
            raw.send(more)
            await asyncio.wait({ended}, timeout=0.05)
        *before, last = answers(await ended)
        assert (last.status, last.problem()) == (408, "request_timeout")
        assert [answer.status for answer in before] == [200] * begin.startswith(get())
        await server.empty()


async def test_a_body_that_gets_on_has_all_the_time_it_needs():
    async with open_server(request_timeout_s=0.5) as server, open_tcp(server.port) as raw:
        raw.send(request("POST / HTTP/1.1", "Host: x", f"Content-Length: {40 * 4096}", "Connection: close"))
        for _ in range(40):
            raw.send(b"x" * 4096)
            await asyncio.sleep(0.05)  # the pace of the client, which needs four times the time for a head
        [answer] = answers(await raw.ended())
        assert answer.body == b"POST / 127.0.0.1 %d" % (40 * 4096)


async def test_credit_for_what_came_fast_does_not_last():
    async with open_server(request_timeout_s=0.5) as server, open_tcp(server.port) as raw:
        raw.send(request("POST / HTTP/1.1", "Host: x", f"Content-Length: {2 * MIB}") + b"x" * (2 * MIB - 1))
        [answer] = answers(await raw.ended(10))  # at its average rate, the last byte would have a quarter of an hour
        assert answer.problem() == "request_timeout"
        assert server.app.gone == 1


async def test_a_slow_application_is_not_the_clients_fault():
    async with (
        open_server(request_timeout_s=0.2) as server,
        open_tcp(server.port) as raw,
        open_tcp(server.port) as idle,
    ):
        raw.send(post(b"x" * MIB, "/held", "Connection: close"))
        await until(lambda: server.app.held == 1)
        assert await idle.ended() == b""
        server.app.release.set()
        [answer] = answers(await raw.ended())
        assert answer.body == b"POST /held 127.0.0.1 %d" % MIB


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n"])
async def test_a_connection_that_says_nothing_ends_without_an_answer(sent):
    async with open_server(request_timeout_s=0.3) as server, open_tcp(server.port) as raw:
        raw.send(sent)
        assert await raw.ended() == b""
        await server.empty()


async def test_an_idle_connection_is_kept_longer_than_a_silent_one_and_not_for_ever():
    limits = {"request_timeout_s": 0.2, "keep_alive_s": 1.5}
    async with open_server(**limits) as server, open_tcp(server.port) as kept, open_tcp(server.port) as silent:
        kept.send(get())
        assert (await answer_of(kept)).status == 200
        assert await silent.ended() == b""
        kept.send(get())
        assert (await answer_of(kept)).status == 200
        assert await kept.ended() == b""


async def test_what_is_left_of_an_answered_body_is_taken_when_it_is_little(server):
    async with open_tcp(server.port) as raw:
        raw.send(request("POST /early HTTP/1.1", "Host: x", "Content-Length: 50000"))
        assert (await answer_of(raw)).status == 200
        raw.send(b"x" * 50_000 + get("/next"))
        assert (await answer_of(raw)).body == b"GET /next 127.0.0.1 0"


@pytest.mark.parametrize("framed", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
async def test_what_is_left_of_an_answered_body_ends_the_connection_when_it_is_much(server, framed):
    async with open_tcp(server.port) as raw:
        raw.send(request("POST /early HTTP/1.1", "Host: x", framed))
        await until(lambda: server.app.calls == ["/early"])
        raw.send((b"10000\r\n" + FILLING + b"\r\n") * 16 if "chunked" in framed else FILLING * 16)
        [answer] = answers(await raw.ended())
        assert answer.status == 200
    await server.empty()


async def test_what_is_left_of_an_answered_body_has_a_deadline():
    async with open_server(request_timeout_s=0.3, keep_alive_s=60) as server, open_tcp(server.port) as raw:
        raw.send(request("POST /early HTTP/1.1", "Host: x", "Content-Length: 50000"))
        ended = asyncio.create_task(raw.ended(30))
        while not ended.done():
            raw.send(b"x")
            await asyncio.wait({ended}, timeout=0.05)
        assert [answer.status for answer in answers(await ended)] == [200]
        await server.empty()


async def test_a_client_that_takes_nothing_is_cut_and_others_are_served():
    async with (
        open_server(slow_client_timeout_s=0.5) as server,
        open_tcp(server.port, receive=4096) as slow,
        open_tcp(server.port, receive=4096) as fair,
    ):
        for raw in (slow, fair):
            raw.send(get("/big", "Connection: close"))
        taken = await fair.ended(30)
        assert answers(taken)[0].body == b"x" * (8 * MIB)
        await server.empty()
        with suppress(ConnectionError):
            assert len(await slow.ended()) < 8 * MIB


@dataclass
class Child:
    """A server in a process of its own."""

    port: int
    pid: int

    @property
    def rss(self) -> int:
        """Bytes of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def child() -> Iterator[Child]:
    command = [sys.executable, "-m", "tests.flow.http_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Child(int(process.stdout.readline()), process.pid)
        process.stdin.close()


async def pour(port: int, begin: bytes, more: bytes, size: int) -> None:
    """Send so many bytes, as fast as they are taken, until the server ends the connection."""
    async with open_tcp(port) as raw:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(3):
                raw.send(begin)
                for _ in range(size // len(more)):
                    raw.send(more)
                    await raw.writer.drain()


async def test_calls_that_are_sent_ahead_wait_unparsed(server: Server, monkeypatch: pytest.MonkeyPatch):
    """Each call looks for its body, which must not let others in."""
    waiting, parse = list[int](), BoundedProtocol._parse

    def watched(self: BoundedProtocol) -> None:
        parse(self)
        waiting.append(len(self.pipeline))

    monkeypatch.setattr(BoundedProtocol, "_parse", watched)
    async with open_tcp(server.port) as raw:
        raw.send(get() * 3_000 + get("/last", "Connection: close"))
        assert len(answers(await raw.ended(30))) == 3_001
    assert max(waiting) < 64


FLOODS = {
    **{
        part: ENDLESS[part][:2] for part in ("a target", "a name", "a value", "lines", "a trailer", "a chunk extension")
    },
    "calls": (b"", get()),
    "calls that have no answer yet": (get("/held"), get()),
    "calls of HTTP/1.0": (b"", request("GET / HTTP/1.0", "Connection: keep-alive")),
    "calls behind one that is held": (get("/held"), request("GET / HTTP/1.0", "Connection: keep-alive")),
    "a body that is not read": (request("POST /held HTTP/1.1", "Host: x", "Content-Length: 1000000000"), FILLING),
    "a body behind a call": (
        get("/held") + request("POST / HTTP/1.1", "Host: x", "Content-Length: 1000000000"),
        FILLING,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_costs_neither_memory_nor_the_processor(flood):
    begin, more = FLOODS[flood]
    more *= 65_536 // len(more)
    with child() as server:
        await pour(server.port, begin, more, 1 * MIB)
        memory, cpu_s = server.rss, server.cpu_s
        await asyncio.gather(*(pour(server.port, begin, more, 64 * MIB) for _ in range(4)))
        assert server.rss - memory < 24 * MIB
        if flood not in ("calls", "calls of HTTP/1.0"):  # these are answered, and so cost what calls cost
            assert server.cpu_s - cpu_s < 1.0


@pytest.mark.slow
async def test_answers_that_nobody_reads_cost_little_memory():
    with child() as server:
        await pour(server.port, get("/big"), b"\r\n", 2)
        memory = server.rss
        async with AsyncExitStack() as stack:
            for _ in range(50):
                raw = await stack.enter_async_context(open_tcp(server.port, receive=4096))
                raw.send(get("/big"))
            fair = await stack.enter_async_context(open_tcp(server.port))
            fair.send(get("/fair"))
            assert (await answer_of(fair)).status == 200
            # An answer of the application itself is 8 MiB, of which the server keeps only what it is handed.
            assert server.rss - memory < 50 * (8 + 1) * MIB
