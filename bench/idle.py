"""CPU of a whole stack at rest, by process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from statistics import median

from bench.costs import idle_cores
from bench.machine import cpu_s
from bench.pairs import Result, beside_bar
from bench.stack import cpu_by_process, open_stack, until_idle
from bench.world import World

_BAR = 4.0
"""Percent of a core."""
_LEAST_S, _MOST_RUNS = 60.0, 3


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure the share of a core that a stack uses while nobody asks for anything."""
    async with open_stack() as stack:
        await until_idle(stack)
        await asyncio.sleep(world.warm_s)

        def read() -> Mapping[str, float]:
            return {**cpu_by_process(stack), "supervisor": cpu_s([stack.supervisor])}

        runs = [await idle_cores(read, max(seconds, _LEAST_S)) for _ in range(min(pairs, _MOST_RUNS))]
    return [
        Result(
            name="idle",
            title="A stack at rest",
            unit="% of a core",
            reference=f"{_BAR:g} % of a core",
            included=(
                f"All processes of `millrace up` with its servers and the supervisor, with default settings, over "
                f"{max(seconds, _LEAST_S):g} s, without connections. The audit runs every five minutes."
            ),
            target=1.0,
            wanted="at most",
            pairs=beside_bar([100 * sum(run.values()) for run in runs], _BAR),
            more={f"percent_{name}": round(100 * median(run[name] for run in runs), 2) for name in sorted(runs[0])},
        )
    ]
