"""What the contracts share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory.redis import MemoryPlaces, MemoryRegistry
from adapters.redis.registry import open_registry
from domain.presence import Entry, Registry
from domain.pubsub import Hint, PubSub
from schemas.ids import new_id

Open = Callable[..., Any]


def real_url(request: pytest.FixtureRequest) -> str:
    """The server that the fixture's parameter names: ``valkey``, or ``cluster``."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("redis_url"))


@dataclass
class Node:
    pubsub: PubSub
    got: asyncio.Queue[Hint]

    async def next(self) -> Hint:
        async with asyncio.timeout(10):
            return await self.got.get()

    def rest(self) -> list[Hint]:
        """What has arrived besides."""
        return [self.got.get_nowait() for _ in range(self.got.qsize())]


async def listen(pubsub: PubSub) -> tuple[Node, asyncio.Task[None]]:
    node = Node(pubsub, asyncio.Queue())

    async def pump() -> None:
        async for hints in pubsub.hints():
            for hint in hints:
                node.got.put_nowait(hint)

    return node, asyncio.create_task(pump())


# registries of connections


def now() -> int:
    return time.time_ns() // 1_000_000


def entry(user: str = "", device: str = "phone") -> Entry:
    return Entry(new_id(), user or new_id(), device, now())


@pytest.fixture(params=["valkey", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    return real_url(request)


@pytest.fixture(params=["memory", "valkey", "cluster"])
async def open_node(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """A registry as one more node sees it; nobody else has its name."""
    async with AsyncExitStack() as stack:
        places, url = MemoryPlaces(), "" if request.param == "memory" else real_url(request)

        async def opened(node: str = "", lease_s: float = 30) -> Registry:
            node = node or new_id()
            if request.param == "memory":
                return MemoryRegistry(places, node, lease_s)
            return await stack.enter_async_context(open_registry(url, node=node, lease_s=lease_s))

        yield opened


@pytest.fixture
async def registry(open_node: Open) -> Registry:
    return await open_node()
