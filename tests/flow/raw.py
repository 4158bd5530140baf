"""Clients that write bytes themselves, and so can be as wrong as they like."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import orjson

from adapters.auth import issue

from .conftest import SECRET

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    says: int | None = None,
) -> bytes:
    """A frame of a client. ``says`` is the length that it claims to have; a mask of zeros is one, too."""
    length = len(payload) if says is None else says
    head, mask = bytes([fin << 7 | reserved << 4 | opcode]), masked << 7
    if length < 126:
        head += bytes([mask | length])
    elif length < 65_536:
        head += bytes([mask | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", length)
    return head + (b"\0" * 4 if masked else b"") + payload


def request(port: int, user: str = "bob", **headers: str) -> bytes:
    """A handshake with a good token."""
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Authorization": f"Bearer {issue(SECRET, user, ttl_s=600)}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return b"GET /ws HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n"


async def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for it."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class Raw:
    """A TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def socket(self) -> socket.socket:
        return self.writer.get_extra_info("socket")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def say(self, **fields: object) -> None:
        self.send(frame(TEXT, orjson.dumps(fields)))

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of the next frame of the server."""
        async with asyncio.timeout(10):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                [length] = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                [length] = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def next(self, *kinds: str) -> dict:
        """The next JSON frame, or the next of these kinds."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT and (not kinds or orjson.loads(payload)["type"] in kinds):
                return orjson.loads(payload)

    async def closed(self) -> int:
        """The code of the close frame, after which the server ends its side; 1006 without one."""
        code = 1006
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    [code] = struct.unpack("!H", payload[:2])
                    self.send(frame(CLOSE, payload))
        return code

    async def ended(self, seconds: float = 10) -> bytes:
        """Everything up to the end of the connection."""
        found = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(seconds):
                while data := await self.reader.read(65_536):
                    found += data
        return found


@asynccontextmanager
async def open_tcp(port: int, *, receive: int = 0) -> AsyncIterator[Raw]:
    """A TCP connection, with a receive buffer of so many bytes; ``reader`` takes no more than it is asked for."""
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def open_raw(port: int, user: str = "bob", *, receive: int = 0, **headers: str) -> AsyncIterator[Raw]:
    """A WebSocket that was greeted."""
    async with open_tcp(port, receive=receive) as raw:
        raw.send(request(port, user, **headers))
        answer = await raw.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        assert (await raw.next())["type"] == "connected"
        yield raw
