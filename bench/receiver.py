"""``python -m bench.receiver ours|bare|listen``: subscribes, and prints a line for each CHUNK messages."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from hiredis import Reader, pack_command

from adapters.redis.client import connect, target
from adapters.redis.subscriptions import open_subscriptions

CHANNEL = "conversation:bench:messages"
CHUNK = 20_000


class Counter:
    """Of messages."""

    def __init__(self) -> None:
        self.count = 0

    def one(self) -> None:
        """One more."""
        self.count += 1
        if self.count % CHUNK == 0:
            print(self.count, flush=True)


async def ours(url: str, count: Callable[[], None]) -> None:
    """As the gateway's listener gets them."""
    async with open_subscriptions(url, "bench") as subscriptions:

        async def hear() -> None:
            async for hints in subscriptions.hints():
                for _ in hints:
                    count()

        hearing = asyncio.create_task(hear())
        await subscriptions.subscribe(CHANNEL)
        print("ready", flush=True)
        await hearing


class Bare(asyncio.Protocol):
    """The least: a parser on a socket."""

    def __init__(self, password: str, count: Callable[[], None]) -> None:
        self._password, self._count, self._reader = password, count, Reader()

    def connection_made(self, transport: Any) -> None:
        transport.write(pack_command(("AUTH", self._password)) + pack_command(("SUBSCRIBE", CHANNEL)))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (said := self._reader.gets()) is not False:
            if isinstance(said, list) and said[0] == b"message":
                self._count()
            elif isinstance(said, list):
                print("ready", flush=True)


async def bare(url: str, count: Callable[[], None]) -> None:
    """hiredis.Reader on a bare protocol."""
    to, loop = target(url), asyncio.get_running_loop()
    password = os.environ["REDIS_PASSWORD"]
    await loop.create_connection(lambda: Bare(password, count), *to.nodes[0])
    await loop.create_future()


async def listen(url: str, count: Callable[[], None]) -> None:
    """The client library's own way."""
    pubsub = connect(target(url)).pubsub()
    await pubsub.subscribe(CHANNEL)
    print("ready", flush=True)
    async for said in pubsub.listen():
        if said["type"] == "message":
            count()


if __name__ == "__main__":
    way = {"ours": ours, "bare": bare, "listen": listen}[sys.argv[1]]
    uvloop.run(way(os.environ["REDIS_URL"], Counter().one))
