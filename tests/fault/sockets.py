"""Sockets that are no good clients: one that shows everything, one that reads nothing."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

FAT = "\N{WATER WAVE}" * 4000
"""16 kB, the largest message there is."""
CLOGGED_S = 25
"""The kernel's buffers fill, then 20 s without progress."""


@dataclass
class Socket:
    """Frames as they come."""

    socket: ClientConnection

    async def say(self, **fields: Any) -> None:
        await self.socket.send(orjson.dumps(fields).decode())

    async def next(self, *kinds: str, seconds: float = 30) -> dict[str, Any]:
        """The next frame, or the next of these kinds."""
        async with asyncio.timeout(seconds):
            while True:
                said: dict[str, Any] = orjson.loads(await self.socket.recv())
                if not kinds or said["type"] in kinds:
                    return said

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All frames up to the first of this kind."""
        found = [await self.next()]
        while found[-1]["type"] != kind:
            found.append(await self.next())
        return found

    async def join(self, room: str, **more: Any) -> None:
        await self.say(type="join_conversation", id=room, **more)
        assert (await self.next("joined", "error"))["type"] == "joined"

    async def closed(self, seconds: float = 30) -> int:
        """The code with which the server ends this."""
        try:
            while True:
                await self.next(seconds=seconds)
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd is not None else 1006


@asynccontextmanager
async def open_socket(url: str, token: str = "") -> AsyncIterator[Socket]:
    """A connection that was greeted; the token may be in the URL, too."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(url, additional_headers=headers, compression=None, proxy=None, close_timeout=1) as made:
        opened = Socket(made)
        await opened.next("connected")
        yield opened


async def first_word(url: str) -> str:
    """The type, or the error's code, of the first frame that a connection gets."""
    async with connect(url, compression=None, proxy=None, close_timeout=1) as made:
        said = orjson.loads(await made.recv())
        return str(said.get("code") or said["type"])


@asynccontextmanager
async def deaf(url: str, token: str, room: str, after: int | None = None) -> AsyncIterator[None]:
    """A socket that has asked for a room and reads nothing. It cannot even see that it is cut: that would come last."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (host, port))
        key = base64.b64encode(os.urandom(16)).decode()
        await loop.sock_sendall(
            sock,
            f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n".encode(),
        )
        greeting = b""
        while b'"connected"' not in greeting:
            greeting += await loop.sock_recv(sock, 1024)
        said = {"type": "join_conversation", "id": room, **({} if after is None else {"after": after})}
        await loop.sock_sendall(sock, _masked(orjson.dumps(said)))
        yield
    finally:
        sock.close()


def _masked(payload: bytes) -> bytes:
    """A text frame of a client; a mask of zeros is one, too."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload
