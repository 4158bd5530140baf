"""Receipts: the cost of clients that acknowledge every message, beside that of the messages themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median

from bench.clients import Shape, members, site_of
from bench.costs import Cost, cost, idle_cores
from bench.pairs import Pair, Point, Result, in_rotation
from bench.stack import UNLIMITED, cpu_by_process, open_stack, until_idle
from bench.world import World

SHAPE, RATES = Shape(100), (20, 100)
"""Clients, and messages a second beside the closed loop: the fewer messages, the more receipts for each."""
_LOOP = "16 on their way"
_QUIET_S = 2.5
"""Seconds of rest after a load: receipts wait a second for more."""
_TARGET = 0.5
_LEAST_S, _REST_S = 20.0, 10.0
"""Least seconds at a rate, so that it has some hundred messages; seconds for which the stack is measured at rest."""


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure the CPU that acknowledgements add to a message."""
    paced = {f"{rate} a second": f"paced {max(seconds, _LEAST_S)} {rate}" for rate in RATES}
    commands = {_LOOP: f"closed {seconds} 16", **paced}
    async with open_stack(**UNLIMITED) as stack:
        site, read, rest = site_of(stack), partial(cpu_by_process, stack), partial(until_idle, stack, _QUIET_S)
        async with members(site, SHAPE) as silent, members(site, SHAPE, WS_ACK="1") as acknowledging:
            await acknowledging.do(f"closed {world.warm_s / 2} 64")
            await silent.do(f"closed {world.warm_s / 2} 64")
            await rest()
            idle = await idle_cores(read, _REST_S)
            found: dict[str, list[tuple[Cost, Cost, float]]] = {}
            for name, command in commands.items():
                measures: list[Callable[[], Awaitable[Cost]]] = [
                    partial(cost, clients, command, read, rest) for clients in (acknowledging, silent)
                ]
                rounds = await in_rotation(pairs if name == _LOOP else min(pairs, 2), measures)
                found[name] = [(acked.without(idle), plain.without(idle), load) for (acked, plain), load in rounds]
    taken = {name: [receipts_beside(*each) for each in rounds] for name, rounds in found.items()}
    return [
        Result(
            name="receipts",
            title=f"Receipts of {SHAPE.sockets} clients that acknowledge every message",
            unit="µs of CPU for a message",
            reference="the message without receipts",
            included=(
                f"The same load with and without acknowledgements, one for each message and client, {_LOOP}; ours is "
                "the difference. All processes and both stores count, without what they use at rest."
            ),
            target=_TARGET,
            wanted="at most",
            pairs=taken[_LOOP],
            points=[
                Point(name, median(pair.ours for pair in pairs_), median(pair.reference for pair in pairs_))
                for name, pairs_ in taken.items()
            ],
            more={
                f"us_added_{name}": round(median(a.us([name]) - b.us([name]) for a, b, _ in found[_LOOP]), 1)
                for name in sorted(found[_LOOP][0][0].cpu_s)
            },
        )
    ]


def receipts_beside(acknowledged: Cost, silent: Cost, load: float) -> Pair:
    """Return the microseconds that receipts add to a message, beside those of the message."""
    message = silent.us()
    return Pair(acknowledged.us() - message, message, load)
