"""A gateway over loopback: real sockets, twins of everything behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from adapters.auth import Verifier, issue
from adapters.auth.claims import ClaimRules
from adapters.auth.keys import Secret
from adapters.memory.history import MemoryHistory
from adapters.memory.identity import MemoryRevocations, MemoryTickets
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.log import MemoryLog
from adapters.memory.redis import MemoryAnswers, MemoryBus, MemoryEphemeralThrottle, MemoryPlaces, MemoryRegistry
from adapters.memory.tables import Tables
from domain.origins import allowed
from domain.policies import CompanyPolicy
from domain.policy import Policy
from domain.revocations import RevokedTokens
from gateway import node
from gateway.publications import room_envelope, to_room
from gateway.server import Gateway, start_server
from tests import make
from tests.flow import frames

SECRET = "s" * 40
LEASE_S = 0.9


@dataclass
class World:
    """A gateway node, and what is behind it."""

    gateway: Gateway
    port: int
    tables: Tables
    bus: MemoryBus
    log: MemoryLog
    parts: node.Node
    tasks: list[asyncio.Task[None]]
    revocations: MemoryRevocations
    tickets: MemoryTickets

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
        await self.bus.publish([to_room(room, room_envelope(change))])

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
                frames.check(said)
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


@dataclass
class Behind:
    """What several nodes share."""

    tables: Tables = field(default_factory=Tables)
    bus: MemoryBus = field(default_factory=MemoryBus)
    log: MemoryLog = field(default_factory=MemoryLog)
    places: MemoryPlaces = field(default_factory=MemoryPlaces)
    throttle: MemoryEphemeralThrottle = field(default_factory=MemoryEphemeralThrottle)
    answers: MemoryAnswers = field(default_factory=MemoryAnswers)
    revocations: MemoryRevocations = field(default_factory=MemoryRevocations)
    tickets: MemoryTickets = field(default_factory=MemoryTickets)
    policy: Policy = field(default_factory=CompanyPolicy)

    @asynccontextmanager
    async def node(
        self, name: str, *, life: str = "", verifier: Verifier | None = None, **config: Any
    ) -> AsyncIterator[World]:
        """One node, which serves. Its verifier, if given, asks ``revoked`` of type RevokedTokens."""
        verifier = verifier or Verifier(Secret(SECRET), ClaimRules(), RevokedTokens())
        assert isinstance(verifier.revoked, RevokedTokens)
        around = node.Dependencies(
            verify=verifier.verify,
            revoked=verifier.revoked,
            revocations=self.revocations,
            tickets=self.tickets,
            history=MemoryHistory(self.tables),
            fanout=self.bus,
            pubsub=self.bus.subscriptions(f"node:{name}"),
            registry=MemoryRegistry(self.places, name, LEASE_S, life),
            throttle=replace(self.throttle, node=name),
            policy=self.policy,
            answers=self.answers,
            log=self.log,
        )
        usual = {"gap_check_interval_s": 0.2, "revocation_poll_interval_s": 0.5, "lease_s": LEASE_S}
        asked = node.GatewayConfig(origins=allowed(["https://chat.example"]), **{**usual, **config})
        assembled = node.assemble(around, asked)
        tasks = [asyncio.create_task(work()) for work in assembled.services]
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await start_server(assembled.gateway, "127.0.0.1", 0))
            port = server.sockets[0].getsockname()[1]
            yield World(
                gateway=assembled.gateway,
                port=port,
                tables=self.tables,
                bus=self.bus,
                log=self.log,
                parts=assembled,
                tasks=tasks,
                revocations=self.revocations,
                tickets=self.tickets,
            )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def behind() -> Behind:
    made = Behind()
    await MemoryConversations(made.tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    return made


@asynccontextmanager
async def open_world(verifier: Verifier | None = None, **config: Any) -> AsyncIterator[World]:
    """A node on twins, with these config."""
    made = Behind()
    await MemoryConversations(made.tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    async with made.node("one", verifier=verifier, **config) as opened:
        yield opened


@pytest.fixture
async def world(behind: Behind) -> AsyncIterator[World]:
    async with behind.node("one") as made:
        yield made


@pytest.fixture
async def other(behind: Behind) -> AsyncIterator[World]:
    """A second node on the same servers."""
    async with behind.node("two") as made:
        yield made


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    """The loop of production: how transports pause, end and fail is a part of what is tested."""
    return {"uvloop": uvloop.new_event_loop}
