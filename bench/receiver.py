"""``python -m bench.receiver ours|bare|listen``: subscribes; prints a line after every CHUNK messages."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from hiredis import Reader, pack_command

from adapters.redis.client import connect
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import target
from runtime.logs import configure_command

CHANNEL = "conversation:bench:messages"
CHUNK = 20_000


class Counter:
    """Counts messages."""

    def __init__(self) -> None:
        self.count = 0

    def one(self) -> None:
        """Count a message; print the count after every CHUNK."""
        self.count += 1
        if self.count % CHUNK == 0:
            print(self.count, flush=True)


async def ours(url: str, count: Callable[[], None]) -> None:
    """Receive by the gateway's own subscriptions."""
    async with open_subscriptions(url, "bench") as subscriptions:

        async def receive() -> None:
            async for hints in subscriptions.hints():
                for _ in hints:
                    count()

        receiving = asyncio.create_task(receive())
        await subscriptions.subscribe(CHANNEL)
        print("ready", flush=True)
        await receiving


class Bare(asyncio.Protocol):
    """A RESP parser on a socket, the least that is possible."""

    def __init__(self, password: str, count: Callable[[], None]) -> None:
        self._password, self._count, self._reader = password, count, Reader()

    def connection_made(self, transport: Any) -> None:
        transport.write(pack_command(("AUTH", self._password)) + pack_command(("SUBSCRIBE", CHANNEL)))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list) and reply[0] == b"message":
                self._count()
            elif isinstance(reply, list):
                print("ready", flush=True)


async def bare(url: str, count: Callable[[], None]) -> None:
    """Receive by hiredis.Reader on a bare protocol."""
    to, loop = target(url), asyncio.get_running_loop()
    password = os.environ["REDIS_PASSWORD"]
    await loop.create_connection(lambda: Bare(password, count), *to.nodes[0])
    await loop.create_future()


async def listen(url: str, count: Callable[[], None]) -> None:
    """Receive by redis-py's ``PubSub.listen()``."""
    pubsub = connect(target(url)).pubsub()
    await pubsub.subscribe(CHANNEL)
    print("ready", flush=True)
    async for message in pubsub.listen():
        if message["type"] == "message":
            count()


if __name__ == "__main__":
    configure_command()
    way = {"ours": ours, "bare": bare, "listen": listen}[sys.argv[1]]
    uvloop.run(way(os.environ["REDIS_URL"], Counter().one))
