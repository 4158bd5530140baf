"""The HTTP server of a process around a tiny application, and raw clients of it.

``python -m tests.flow.http_server`` serves until its standard input ends; it prints its port.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import uvloop

from domain.addresses import Proxies
from domain.origins import allowed
from ingest.http.cors import cors_fields
from runtime.http.limits import Connections, HttpLimits
from runtime.http.server import http_server
from runtime.logs import configure
from tests.flow.raw import Raw, open_tcp, until


@dataclass
class Echo:
    """Answers with method, path, client and length of the body. ``/held`` waits for ``release`` before it reads,
    ``/early`` answers before it reads, ``/big`` answers 8 MiB."""

    calls: list[str] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    held: int = 0
    gone: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.calls.append(path)
        self.headers = list(scope["headers"])
        if path == "/held":
            self.held += 1
            await self.release.wait()
            self.held -= 1
        size = 0
        while path != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        text = b"x" * (8 << 20) if path == "/big" else f"{scope['method']} {path} {scope['client'][0]} {size}".encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(text), 65_536):
            part = {"body": text[start : start + 65_536], "more_body": start + 65_536 < len(text)}
            await send({"type": "http.response.body", **part})


@dataclass
class Server:
    """A server that runs."""

    port: int
    app: Echo
    bounds: Connections

    async def ask(self, data: bytes, seconds: float = 10) -> list[Answer]:
        """The answers to these bytes, up to the end of the connection."""
        async with open_tcp(self.port) as raw:
            raw.send(data)
            return answers(await raw.ended(seconds))

    async def serves(self) -> None:
        """An honest client gets its answer."""
        [answer] = await self.ask(get("/honest", "Connection: close"))
        assert (answer.status, answer.body) == (200, b"GET /honest 127.0.0.1 0")

    async def empty(self) -> None:
        await until(lambda: self.bounds.open == 0)


@dataclass
class Answer:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> str:
        """The code of a problem, which has the form of all problems and ends its connection."""
        problem = orjson.loads(self.body)
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["connection"] == "close"
        assert problem["status"] == self.status
        assert problem["type"] == f"urn:millrace:problem:{problem['code']}"
        assert problem["detail"] and problem["title"]
        if self.status in (408, 429, 503):
            assert int(self.headers["retry-after"]) >= 1
        return problem["code"]


def answers(data: bytes) -> list[Answer]:
    """The answers in these bytes."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        [status] = re.findall(r"HTTP/1\.1 (\d{3}) ", first)
        length = int(headers["content-length"])
        found.append(Answer(int(status), headers, data[:length]))
        data = data[length:]
    return found


def request(line: str, *headers: str) -> bytes:
    return "".join(f"{part}\r\n" for part in (line, *headers, "")).encode()


def get(path: str = "/", *headers: str) -> bytes:
    return request(f"GET {path} HTTP/1.1", "Host: x", *headers)


def post(body: bytes, path: str = "/", *headers: str) -> bytes:
    return request(f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers) + body


def chunked(data: bytes, *headers: str) -> bytes:
    return request("POST / HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *headers) + data


@asynccontextmanager
async def open_server(*, proxies: str = "", origins: Sequence[str] = (), **limits: Any) -> AsyncIterator[Server]:
    """A server with these limits; no connection is counted by its address unless they say so."""
    app, fields = Echo(), partial(cors_fields, origins=allowed(origins))
    bounds = Connections(HttpLimits(**{"connections_per_address": 0, **limits}), Proxies.of(proxies), fields)
    async with http_server(app, "127.0.0.1", 0, bounds) as port:
        try:
            yield Server(port, app, bounds)
        finally:
            app.release.set()


async def answer_of(raw: Raw) -> Answer:
    """The next answer on a connection that stays open."""
    head = await raw.reader.readuntil(b"\r\n\r\n")
    [length] = re.findall(rb"content-length: (\d+)", head)
    return answers(head + await raw.reader.readexactly(int(length)))[0]


async def _main() -> None:
    async with open_server() as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configure("http-server", "warning")
    uvloop.run(_main())
