"""Intake of a node: the cost of a message from the socket to Redis up to the listener, before any delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from hiredis import pack_command

from bench.machine import cores, cpu_s
from bench.pairs import Measure, Result, in_turns
from bench.process import Process, python
from bench.receiver import CHANNEL, CHUNK
from bench.world import World

_FRAME = b'message 1 - {"type":"new_message","content":"' + b"x" * 260 + b'"}'
_AT_ONCE = 1000
_INCLUDED = (
    "The receiving process only, up to the point where the gateway's listener has the message: parsing, finding the "
    "channel, the bounded queue. 300 bytes each, one channel; Redis sends as fast as it can, 20,000 at a time."
)


@dataclass(slots=True)
class Flood:
    """Raw connection to Redis that publishes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def pour(self, count: int) -> None:
        """Publish so many messages, ``_AT_ONCE`` in a write."""
        command = pack_command(("PUBLISH", CHANNEL, _FRAME))  # type: ignore[arg-type]
        for _ in range(count // _AT_ONCE):
            self.writer.write(command * _AT_ONCE)
            for _ in range(_AT_ONCE):
                await self.reader.readline()


@asynccontextmanager
async def _flood(world: World) -> AsyncIterator[Flood]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.valkey.port)
    writer.write(pack_command(("AUTH", world.folder.secret("redis"))))  # type: ignore[arg-type]
    await reader.readline()
    try:
        yield Flood(reader, writer)
    finally:
        writer.close()


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure messages for each second of CPU."""
    results = []
    for name, reference, target in (
        ("bare", "hiredis.Reader on a bare asyncio.Protocol", 0.4),
        ("listen", "redis-py's PubSub.listen()", 4.0),
    ):
        results.append(
            Result(
                name=f"intake-{name}",
                title=f"Redis to the listener, beside {reference}",
                unit="messages per core-second",
                reference=reference,
                included=_INCLUDED,
                target=target,
                wanted="at least",
                pairs=await in_turns(pairs, _receive(world, "ours", seconds), _receive(world, name, seconds)),
            )
        )
    return results


def _receive(world: World, way: str, seconds: float) -> Measure:
    env = {"REDIS_URL": world.valkey.url, "REDIS_PASSWORD": world.folder.secret("redis")}

    async def measure() -> float:
        async with AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(python("bench.receiver", way, env=env, core=cores()[0]))
            flood = await stack.enter_async_context(_flood(world))
            await _chunk(flood, receiver)  # warm
            clock = asyncio.get_running_loop().time
            before, end, count = cpu_s([receiver.pid]), clock() + seconds, 0
            while clock() < end:
                await _chunk(flood, receiver)
                count += CHUNK
            return count / (cpu_s([receiver.pid]) - before)

    return measure


async def _chunk(flood: Flood, receiver: Process) -> None:
    await flood.pour(CHUNK)
    await receiver.line()
