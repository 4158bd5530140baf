"""What the contracts share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from domain.pubsub import Hint, PubSub


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
