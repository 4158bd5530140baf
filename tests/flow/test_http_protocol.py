"""HTTP as it really comes: malformed, pipelined, half-closed, with other protocols on offer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from tests.flow.http_server import Server, answer_of, answers, chunked, get, open_server, post, request
from tests.flow.raw import open_tcp, until

OFFER = ("Upgrade: h2c", "Connection: Upgrade")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server() as opened:
        yield opened


MALFORMED = {
    "no request": (b"\x16\x03\x01\x00\xba" * 10, 400),
    "no Host": (request("GET / HTTP/1.1"), 400),
    "two Hosts": (request("GET / HTTP/1.1", "Host: a", "Host: b"), 400),
    "the same Host twice": (request("GET / HTTP/1.1", "Host: a", "Host: a"), 400),
    "two Hosts in HTTP/1.0": (request("GET / HTTP/1.0", "Host: a", "Host: b"), 400),
    "a Host with a blank": (request("GET / HTTP/1.1", "Host: a b"), 400),
    "a Host with a path": (request("GET / HTTP/1.1", "Host: a/b"), 400),
    "a Host with a user": (request("GET / HTTP/1.1", "Host: a@b"), 400),
    "an unknown method": (request("FOO / HTTP/1.1", "Host: x"), 400),
    "a method in small letters": (request("get / HTTP/1.1", "Host: x"), 400),
    "CONNECT": (request("CONNECT x:443 HTTP/1.1", "Host: x:443"), 400),
    "HTTP/2.0": (request("GET / HTTP/2.0", "Host: x"), 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/3.0": (request("GET / HTTP/3.0", "Host: x"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a header without a colon": (request("GET / HTTP/1.1", "Host: x", "A"), 400),
    "a blank before the colon": (request("GET / HTTP/1.1", "Host : x"), 400),
    "a NUL in a header": (request("GET / HTTP/1.1", "Host: x", "A: \0"), 400),
    "a target that is not ASCII": (request("GET /\u00e9 HTTP/1.1", "Host: x"), 400),
    "two lengths": (request("POST / HTTP/1.1", "Host: x", "Content-Length: 5", "Content-Length: 6") + b"hello", 400),
    "a length and chunks": (chunked(b"0\r\n\r\n", "Content-Length: 5"), 400),
    "a length that is none": (request("POST / HTTP/1.1", "Host: x", "Content-Length: -5"), 400),
    "a length without end": (request("POST / HTTP/1.1", "Host: x", "Content-Length: " + "9" * 30), 400),
    "a chunk of no size": (chunked(b"zz\r\n"), 400),
    "a chunk that is too long": (chunked(b"1\r\nab\r\n"), 400),
    "a coding that is not chunked": (request("POST / HTTP/1.1", "Host: x", "Transfer-Encoding: gzip"), 400),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_what_is_malformed_is_answered_by_a_problem_and_logged_as_nothing(server, case, caplog):
    data, status = MALFORMED[case]
    code = "bad_request" if status == 400 else "http_version_not_supported"
    before = counted(code)
    with caplog.at_level(logging.INFO):
        *_, answer = await server.ask(data)
    assert (answer.status, answer.problem()) == (status, code)
    assert counted(code) == before + 1
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    await server.serves()


def counted(code: str) -> float:
    return REGISTRY.get_sample_value("millrace_refused_requests_total", {"code": code}) or 0


ALLOWED = {
    "HTTP/1.0 without Host": request("GET / HTTP/1.0"),
    "an empty Host": request("GET / HTTP/1.1", "Host:", "Connection: close"),
    "a Host with a port": request("GET / HTTP/1.1", "Host: example.org:8080", "Connection: close"),
    "a Host that is an address": request("GET / HTTP/1.1", "Host: [::1]:8080", "Connection: close"),
    "the absolute form": request("GET http://x/ HTTP/1.1", "Host: x", "Connection: close"),
    "a blank line before it": b"\r\n" + get("/", "Connection: close"),
}


@pytest.mark.parametrize("case", ALLOWED)
async def test_what_is_allowed_is_served(server, case):
    [answer] = await server.ask(ALLOWED[case])
    assert (answer.status, answer.body) == (200, b"GET / 127.0.0.1 0")


@pytest.mark.parametrize("wrong", [b"\0\0\0", request("GET / HTTP/1.1"), chunked(b"zz\r\n"), b"GET /" + b"x" * 70_000])
async def test_requests_before_a_malformed_one_are_answered_first(server, wrong):
    async with open_tcp(server.port) as raw:
        raw.send(get("/held") + post(b"hello", "/second") + wrong)
        await until(lambda: server.app.held == 1)
        server.app.release.set()
        first, second, refused = answers(await raw.ended())
        assert first.body == b"GET /held 127.0.0.1 0"
        assert second.body == b"POST /second 127.0.0.1 5"
        assert refused.problem() in ("bad_request", "headers_too_large")
        assert server.app.calls == ["/held", "/second"]


async def test_many_pipelined_requests_are_all_answered_in_order(server):
    sent = b"".join(post(b"x" * (number % 7), f"/{number}") for number in range(3000))
    found = await server.ask(sent + get("/last", "Connection: close"), 60)
    assert [answer.body for answer in found[:-1]] == [b"POST /%d 127.0.0.1 %d" % (n, n % 7) for n in range(3000)]
    assert found[-1].body == b"GET /last 127.0.0.1 0"


@pytest.mark.parametrize("count", [1, 2, 200])
async def test_a_client_that_ends_its_side_gets_its_answers(server, count):
    async with open_tcp(server.port) as raw:
        raw.send(post(b"hello", "/held") * count)
        raw.writer.write_eof()
        await until(lambda: server.app.held == 1)
        server.app.release.set()
        assert [answer.body for answer in answers(await raw.ended())] == [b"POST /held 127.0.0.1 5"] * count
    await server.empty()


async def test_a_client_that_ends_its_side_within_a_body_is_gone(server):
    async with open_tcp(server.port) as raw:
        raw.send(post(b"hello")[:-1])
        raw.writer.write_eof()
        assert await raw.ended() == b""
    await until(lambda: server.app.gone == 1)


SMUGGLED = get("/smuggled")


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0", "x"])
@pytest.mark.parametrize(
    "sent",
    [
        lambda *offer: post(SMUGGLED, "/", *offer),
        lambda *offer: chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), *offer),
    ],
)
async def test_a_body_stays_a_body_when_another_protocol_is_offered(server, sent, protocol):
    async with open_tcp(server.port) as raw:
        for byte in sent(f"Upgrade: {protocol}", "Connection: Upgrade"):
            raw.send(bytes([byte]))
        [answer] = answers(await raw.ended())
        assert answer.body == b"POST / 127.0.0.1 %d" % len(SMUGGLED)
        assert server.app.calls == ["/"]


async def test_a_client_that_offers_another_protocol_goes_on_in_this_one(server, caplog):
    async with open_tcp(server.port) as raw:
        for path in ("/first", "/second"):
            raw.send(get(path, *OFFER))
            assert (await answer_of(raw)).body == f"GET {path} 127.0.0.1 0".encode()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


async def test_the_client_is_the_last_address_that_a_trusted_proxy_does_not_own():
    async with open_server(proxies="127.0.0.1,10.0.0.0/8") as server:
        for forwarded, client in (
            (["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
            (["X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
            (["X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
            ([], "127.0.0.1"),
        ):
            [answer] = await server.ask(get("/", "Connection: close", *forwarded))
            assert answer.body == f"GET / {client} 0".encode()


async def test_nobody_else_is_believed_about_an_address(server):
    [answer] = await server.ask(get("/", "Connection: close", "X-Forwarded-For: 192.0.2.7"))
    assert answer.body == b"GET / 127.0.0.1 0"
