"""Attacks on the WebSocket port: frames before membership, floods, replays, connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count

import httpx2
from websockets.asyncio.client import ClientConnection

from schemas.ids import new_id
from verify.attacks.doors import GONE, Doors, in_parallel, say
from verify.attacks.http import room_of

_MESSAGES = 200
_PACE_S = 0.055  # just within the limit of frames


async def receipts_before_membership(doors: Doors) -> None:
    """Join what is no conversation, and acknowledge in the same write."""
    numbers = count()

    async def one(_: int) -> None:
        async with doors.socket() as socket, asyncio.TaskGroup() as group:
            group.create_task(_read(socket))
            while True:
                number = next(numbers)
                id_ = new_id() if number % 2 else f"{number}-no-conversation"
                await say(socket, type="join_conversation", id=id_)
                await say(socket, type="ack", conversationId=id_, seq=number % 3)
                await asyncio.sleep(_PACE_S)

    await in_parallel(10, one)


async def frame_flood(doors: Doors) -> None:
    """Send frames as fast as the connection takes them, and come again when it is closed."""

    async def one(number: int) -> None:
        async with doors.socket() as socket, asyncio.TaskGroup() as group:
            group.create_task(_read(socket))
            while True:
                await say(socket, type="join_conversation", id="y" * 60_000 if number % 2 else new_id())

    await in_parallel(20, one)


async def connects(doors: Doors) -> None:
    """Connect and hang up, again and again."""

    async def one(_: int) -> None:
        async with doors.socket():
            pass

    await in_parallel(50, one)


async def replays(doors: Doors) -> None:
    """Ask for a long history again and again on many sockets."""
    room = doors.history or await _history(doors)

    async def one(_: int) -> None:
        async with doors.socket() as socket:
            while True:
                await say(socket, type="join_conversation", id=room, after=0)
                while b'"type":"joined"' not in await _raw(socket):
                    pass

    await in_parallel(20, one)


async def _history(doors: Doors) -> str:
    async with doors.client(8) as client:
        room = await room_of(client)
        body = {"conversationId": room, "type": "text", "content": "x" * 3_900}
        async with asyncio.TaskGroup() as group:
            for _ in range(_MESSAGES):
                group.create_task(_post(client, body))
        return room


async def _post(client: httpx2.AsyncClient, body: dict[str, str]) -> None:
    with suppress(*GONE):
        await client.post("/messages", json=body)


async def _read(socket: ClientConnection) -> None:
    """Take everything that comes. Raises ConnectionClosed."""
    while True:
        await socket.recv()


async def _raw(socket: ClientConnection) -> bytes:
    return await socket.recv(decode=False)
