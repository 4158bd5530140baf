"""Reconnect storm: a gateway is killed, and all clients reconnect to another one at once and catch up."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.pairs import Measure, Result, in_turns
from bench.process import load
from bench.world import World

SIZE = 5000
AT_ONCE = 256
MISSED = 20
"""Messages that are sent while no client is connected."""
_MOST_MS = 3000.0


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure clients that are caught up in a second. ``seconds`` is not used."""
    storms: list[dict[str, float]] = []
    taken = await in_turns(pairs, _ours(world, storms), _handshakes(world))
    p99 = sorted(storm["p99_ms"] for storm in storms)
    lost = sum(SIZE * MISSED - storm["frames"] + storm["gaps"] for storm in storms)
    return [
        Result(
            name="storm",
            title=f"{SIZE:,} clients reconnect after the kill of a gateway",
            unit="clients per second",
            reference="handshakes of the websockets library alone",
            included=(
                f"A client is done when it is authenticated, registered, joined, and has the {MISSED} messages that it "
                f"missed, from PostgreSQL, in order. {AT_ONCE} connect at a time, to one other node. PostgreSQL and "
                "Redis run beside it on the same two cores. The reference answers the WebSocket handshake, no more."
            ),
            target=0.4,
            wanted="at least",
            pairs=taken,
            more={
                "p99_resume_ms": [round(value) for value in p99],
                "p99_at_most_ms": _MOST_MS,
                "storms_within_p99": f"{sum(value <= _MOST_MS for value in p99)} of {len(p99)}",
                "lost": int(lost),
            },
        )
    ]


def _ours(world: World, storms: list[dict[str, float]]) -> Measure:
    async def measure() -> float:
        room = await world.room(SIZE)
        async with AsyncExitStack() as stack:
            one, other = world.port(), world.port()
            first = await stack.enter_async_context(world.gateway(one))
            await stack.enter_async_context(world.gateway(other))
            clients = await stack.enter_async_context(load(**world.clients(room, SIZE)))
            await clients.do(f"open {SIZE} {AT_ONCE} {one} 0")
            first.kill()
            await world.send(room, MISSED)
            await clients.do("shut")
            resumed = await clients.do(f"open {SIZE} {AT_ONCE} {other} 0")
            storms.append(resumed)
            return float(SIZE / resumed["seconds"])

    return measure


def _handshakes(world: World) -> Measure:
    async def measure() -> float:
        port = world.port()
        async with world.bare(port), load() as clients:
            opened = await clients.do(f"open {SIZE} {AT_ONCE} {port} -1")
            return float(SIZE / opened["seconds"])

    return measure
