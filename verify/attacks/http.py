"""Attacks on the HTTP port: connections, heads and bodies without end, and calls that cost more than they look."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2

from schemas.ids import new_id
from verify.attacks.doors import GONE, Doors, in_parallel

_CONNECTIONS, _AGAIN_S = 1_000, 1.0
"""Connections that are held, and seconds until one that was closed is opened again."""
_PIECE = 64 * 1024
_HEADS = 4
_PARTS = 40
_PART = 4 * 1024 * 1024
_FILE = 16 * 1024 * 1024
_HOLD_S = 30.0
_TUS = {"tus-resumable": "1.0.0"}


async def idle_connections(doors: Doors) -> None:
    """Hold connections on which nothing is ever said; no token."""

    async def one(_: int) -> None:
        connection = await doors.tcp()
        try:
            await connection[0].read(1)
        finally:
            connection[1].transport.abort()

    await in_parallel(_CONNECTIONS, one, _AGAIN_S)


async def endless_heads(doors: Doors) -> None:
    """Send heads without end: many lines, one value, one URL; no token."""
    begins = (b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nA: ", b"GET /")
    pieces = (b"A: " + b"x" * 8_000 + b"\r\n", b"x" * _PIECE, b"x" * _PIECE)

    async def one(number: int) -> None:
        _, writer = await doors.tcp()
        try:
            writer.write(begins[number % len(begins)])
            while True:
                writer.write(pieces[number % len(pieces)])
                await writer.drain()
        finally:
            writer.transport.abort()

    await in_parallel(_HEADS, one)


async def bad_tokens(doors: Doors) -> None:
    """Call with tokens that nobody has signed."""
    async with doors.client(32) as client:

        async def one(_: int) -> None:
            await client.get("/conversations", headers={"authorization": f"Bearer a.b.{secrets.token_hex(16)}"})

        await in_parallel(32, one)


async def flood(doors: Doors) -> None:
    """Send messages as fast as they are answered."""
    async with doors.client() as client:
        room = await room_of(client)

        async def one(_: int) -> None:
            await client.post("/messages", json={"conversationId": room, "type": "text", "content": "x" * 1000})

        await in_parallel(100, one)


async def creations(doors: Doors) -> None:
    """Make conversations of many members, many at once."""
    members = [f"{doors.user}.{number}" for number in range(500)]
    async with doors.client() as client:

        async def one(_: int) -> None:
            await client.post("/conversations", json={"members": members})

        await in_parallel(100, one)


async def invented_devices(doors: Doors) -> None:
    """Report receipts of devices that do not exist."""
    async with doors.client() as client:
        room = await room_of(client)
        await client.post("/messages", json={"conversationId": room, "type": "text", "content": "x"})

        async def one(_: int) -> None:
            body = {"deliveredSeq": 1, "device": secrets.token_hex(8)}
            await client.post(f"/conversations/{room}/receipts", json=body)

        await in_parallel(50, one)


async def searches(doors: Doors) -> None:
    """Search for what costs most, many times at once."""
    queries = ("thank you", "meeting tomorrow", "w0 w1 w2 w3 w4 w5", "zzzz", "hello")
    async with doors.client() as client:

        async def one(number: int) -> None:
            await client.get("/search", params={"q": queries[number % len(queries)], "limit": 100})

        await in_parallel(30, one)


async def empty_uploads(doors: Doors) -> None:
    """Announce uploads and send nothing."""
    async with doors.client() as client:

        async def one(_: int) -> None:
            await client.post("/media", headers={**_TUS, "upload-length": str(32 * 1024 * 1024)})

        await in_parallel(60, one)


async def unfinished_bodies(doors: Doors) -> None:
    """Send parts of files, each less its last byte, and keep the connections."""
    async with doors.client() as client:

        async def one(_: int) -> None:
            made = await client.post("/media", headers={**_TUS, "upload-length": str(_PART)})
            writer = (await doors.tcp())[1]
            try:
                writer.write(_patch(doors, made.headers.get("location", "/media/none")))
                writer.write(bytes(_PART - 1))
                await writer.drain()
                await asyncio.sleep(_HOLD_S)
            finally:
                writer.transport.abort()

        await in_parallel(_PARTS, one)


def _patch(doors: Doors, location: str) -> bytes:
    path = urlsplit(location).path
    return (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {doors.bearer['authorization']}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {_PART}\r\n\r\n"
    ).encode()


async def unread_downloads(doors: Doors) -> None:
    """Ask for a file on many connections, and never read."""
    async with doors.client() as client:
        files: list[str] = []

        async def one(_: int) -> None:
            if not files:
                files.append(await uploaded(client, secrets.token_bytes(_FILE)))
            await _unread(doors, f"/media/{files[0]}")

        await in_parallel(30, one)


def _unread(doors: Doors, path: str) -> Coroutine[Any, Any, None]:
    async def hold() -> None:
        _, writer = await doors.tcp()
        try:
            taken: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {doors.bearer['authorization']}\r\n\r\n"
            writer.write(head.encode())
            await asyncio.sleep(_HOLD_S)
        finally:
            writer.transport.abort()

    return hold()


async def uploaded(client: httpx2.AsyncClient, content: bytes, file_type: str = "application/octet-stream") -> str:
    """Upload a file in one part; return its id. Raises what GONE names when the server refuses it."""
    made = await client.post("/media", headers={**_TUS, "upload-length": str(len(content))})
    made.raise_for_status()
    media = made.headers["location"].rpartition("/")[2]
    patch = {**_TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    (await client.patch(f"/media/{media}", content=content, headers=patch)).raise_for_status()
    return str(media)


async def room_of(client: httpx2.AsyncClient) -> str:
    """Create a conversation of its own for the hostile user; wait while the server refuses."""
    while True:
        with suppress(*GONE):
            room = new_id()
            answer = await client.post("/conversations", json={"conversationId": room, "members": []})
            if answer.is_success:
                return room
        await asyncio.sleep(0.2)
