"""A gateway over loopback: real sockets, twins of everything behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway import node
from gateway.dispatcher import to_room
from gateway.server import Gateway, start_server
from runtime.auth import Verifier, issue
from runtime.memory.history import MemoryHistory
from runtime.memory.intake import MemoryConversations, MemoryIntake
from runtime.memory.log import MemoryLog
from runtime.memory.redis import MemoryBus, MemoryRegistry
from runtime.memory.tables import Tables
from schemas.messages import Message
from tests import make

SECRET = "s" * 40


@dataclass
class World:
    """A gateway node, and what is behind it."""

    gateway: Gateway
    port: int
    tables: Tables
    bus: MemoryBus
    log: MemoryLog
    sent: list[Message] = field(default_factory=list)

    async def send(self, content: str = "hi", *, sender: str = "alice", told: bool = True) -> int:
        """A message that is in the store, and, if told, on the bus."""
        return await self.send_to(make.ROOM, content, sender=sender, told=told)

    async def send_to(self, room: str, content: str = "hi", *, sender: str = "alice", told: bool = True) -> int:
        draft = make.draft(content, sender=sender, conversationId=room)
        [outcome] = await MemoryIntake(self.tables).accept([draft])
        if told:
            await self.tell(outcome.message.seq, room)
        return outcome.message.seq

    async def tell(self, seq: int, room: str = make.ROOM) -> None:
        [change] = await MemoryHistory(self.tables).changes(room, seq - 1, seq, 1)
        await self.bus.publish([to_room(change)])

    @asynccontextmanager
    async def client(self, user: str = "bob", *, ttl: int = 60, query: str = "", **more) -> AsyncIterator[Client]:
        token = issue(SECRET, user, ttl_s=ttl)
        headers = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        async with connect(url, additional_headers=headers, compression=None, **more) as socket:
            client = Client(socket)
            assert (await client.next())["type"] == "connected"
            yield client


@dataclass
class Client:
    """A socket, seen from outside."""

    socket: ClientConnection

    async def say(self, **fields: object) -> None:
        await self.socket.send(orjson.dumps(fields).decode())

    async def next(self, *kinds: str) -> dict:
        """The next frame, or the next of these kinds."""
        async with asyncio.timeout(10):
            while True:
                said = orjson.loads(await self.socket.recv())
                if not kinds or said["type"] in kinds:
                    return said

    async def join(self, after: int | None = None) -> list[int]:
        """Join the room; the seqs that were replayed."""
        await self.say(type="join_conversation", id=make.ROOM, **({} if after is None else {"after": after}))
        replayed = []
        while (said := await self.next("new_message", "conversation_changed", "joined", "error"))["type"] != "joined":
            assert said["type"] != "error", said
            replayed.append(said["seq"])
        return replayed

    async def seqs(self, count: int) -> list[int]:
        return [(await self.next("new_message", "conversation_changed"))["seq"] for _ in range(count)]

    async def closed(self) -> int:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await self.next()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code


@asynccontextmanager
async def open_world(**more: Any) -> AsyncIterator[World]:
    """A node on twins, with these habits."""
    tables, bus, log = Tables(), MemoryBus(), MemoryLog()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    around = node.World(
        verify=Verifier(SECRET, "millrace", "millrace").verify,
        history=MemoryHistory(tables),
        fanout=bus,
        subscriptions=bus.subscriptions(),
        registry=MemoryRegistry(),
        log=log,
    )
    habits = node.Habits(origins=frozenset({"https://chat.example"}), heads_every_s=0.2, **more)
    assembled = node.assemble(around, habits)
    gateway = assembled.gateway
    tasks = [asyncio.create_task(work()) for work in assembled.works]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await start_server(gateway, "127.0.0.1", 0))
        yield World(gateway, server.sockets[0].getsockname()[1], tables, bus, log)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    """The loop of production: how transports pause, end and fail is a part of what is tested."""
    return {"uvloop": uvloop.new_event_loop}
