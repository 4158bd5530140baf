"""Memory of an idle connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from bench.machine import rss_kib
from bench.pairs import Measure, Result, in_turns
from bench.process import Process, load
from bench.world import World

SIZE = 5000
_MOST_KIB = 21.0
_REST_S = 1.5


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure resident memory for each idle, authenticated connection. ``seconds`` is not used."""
    room = await world.room(SIZE)
    env = world.clients(room, SIZE)
    taken = await in_turns(pairs, _of(world, world.gateway, env, -1), _of(world, world.bare, {}, -1))
    joined = await _of(world, world.gateway, env, 0)()
    ours = sorted(pair.ours for pair in taken)[len(taken) // 2]
    return [
        Result(
            name="memory",
            title=f"Memory of each of {SIZE:,} idle connections",
            unit="KiB resident",
            reference="the websockets library alone, without compression",
            included=(
                "The server's process only, from before the first connection to after the last, Pss. Ours are "
                "authenticated, registered in Redis, with two subscribed channels each. Not the buffers of the kernel."
            ),
            target=1.5,
            wanted="at most",
            pairs=taken,
            more={
                "kib_per_connection": round(ours, 2),
                "at_most_kib": _MOST_KIB,
                "reached_kib": ours <= _MOST_KIB,
                "kib_per_joined_connection": round(joined, 2),
            },
        )
    ]


def _of(
    world: World, server: Callable[[int], AbstractAsyncContextManager[Process]], env: Mapping[str, str], after: int
) -> Measure:
    async def measure() -> float:
        port = world.port()
        async with server(port) as process, load(**env) as clients:
            before = rss_kib(process.pid)
            await clients.do(f"open {SIZE} 128 {port} {after}")
            await asyncio.sleep(_REST_S)
            return (rss_kib(process.pid) - before) / SIZE

    return measure
