"""Tail latency: the delay that clients which never read cause for those that do."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.machine import rss_kib
from bench.pairs import Measure, Result, in_turns
from bench.process import BenchError, Process, load
from bench.world import World

SIZE, STALLED = 400, 4
RATE = 100.0
_CONTENT = 4000
_MOST_KIB, _LEAST_KIB = 1024.0, 64.0
"""Most memory that a socket which never reads may cost, and the least: below it the kernel buffered everything."""
_RCVBUF = "4096"
_LEAST_S = 10.0
"""Least seconds of a run, a thousand messages: of fewer, one pause of the machine makes the 99th percentile."""


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure the 99th percentile of the delay of readers, with and without clients that never read."""
    port, grown, seconds = world.port(), list[float](), max(seconds, _LEAST_S)
    async with world.gateway(port) as gateway:
        await _run(world, port, gateway, 0, seconds, [])()  # buffers find their size
        with_them = _run(world, port, gateway, STALLED, seconds, grown)
        taken = await in_turns(pairs, with_them, _run(world, port, gateway, 0, seconds, []))
    growth = max(grown) / STALLED  # later runs find room that earlier ones have made
    if growth < _LEAST_KIB:
        raise BenchError(f"no slow reader was met: the gateway kept {growth:.0f} KiB for each; take more SECONDS")
    return [
        Result(
            name="tail",
            title=f"p99 for {SIZE} sockets while {STALLED} more never read",
            unit="ms",
            reference="the same without the sockets that do not read",
            included=(
                f"{RATE:.0f} messages a second of {_CONTENT:,} bytes for all; the delay counts from the time at which "
                "a message was due to be published, for each delivery."
            ),
            target=1.2,
            wanted="at most",
            pairs=taken,
            more={
                "kib_grown_per_stalled_socket": round(growth),
                "at_most_kib": _MOST_KIB,
                "reached_kib": growth <= _MOST_KIB,
            },
        )
    ]


def _run(world: World, port: int, gateway: Process, stalled: int, seconds: float, grown: list[float]) -> Measure:
    async def measure() -> float:
        room = await world.room(SIZE + STALLED)
        env = {**world.clients(room, SIZE + STALLED), "WS_SIZE": str(_CONTENT)}
        async with AsyncExitStack() as stack:
            readers = await stack.enter_async_context(load(**env))
            await readers.do(f"open {SIZE} 64 {port} 0")
            if stalled:
                others = await stack.enter_async_context(load(**env, WS_RCVBUF=_RCVBUF))
                await others.do(f"open {stalled} 64 {port} 0")
                await others.do(f"stall {stalled}")
            before = rss_kib(gateway.pid)
            paced = await readers.do(f"paced {seconds} {RATE}")
            grown.append(rss_kib(gateway.pid) - before)
            return float(paced["p99_ms"])

    return measure
