"""Latency at a human pace: until a sender is answered, and until the last socket of a room has the message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import hops
from bench.clients import Shape, members, site_of
from bench.pairs import Result, beside_bar
from bench.stack import UNLIMITED, open_stack, until_idle
from bench.world import World, open_folder

SHAPE, RATE, LEAST_S = Shape(100), 20, 60.0
"""Sockets, messages a second, and the least seconds of a run."""
_TRACED_S = 15.0
_BARS: Mapping[str, tuple[str, float, str]] = {
    "post": ("until the sender is answered, p50", 2.5, "post_p50_ms"),
    "last": ("until the last socket has the message, p50", 9.0, "last_p50_ms"),
    "last-p99": ("until the last socket has the message, p99", 16.0, "last_p99_ms"),
    "pause": ("the longest of all delays", 50.0, "longest_ms"),
}
"""Name of a result → what it is, the most milliseconds, and its field in the report of the load client."""


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure the delays, and print where the milliseconds go."""
    command = f"paced {max(seconds, LEAST_S)} {RATE}"
    async with open_stack(**UNLIMITED) as stack, members(site_of(stack), SHAPE) as clients:
        await clients.do(f"closed {world.warm_s} 16")
        await until_idle(stack)
        reports = [await clients.do(command) for _ in range(pairs)]
    found = await _hops(world)
    print(hops.table(found), flush=True)
    return [_result(name, reports, found) for name in _BARS]


def _result(name: str, reports: Sequence[Mapping[str, Any]], found: Sequence[hops.Hop]) -> Result:
    what, bar, field = _BARS[name]
    measured = [report[field] for report in reports]
    fields = ("post_p50_ms", "post_p99_ms", "last_p50_ms", "last_p99_ms", "longest_ms", "lost")
    return Result(
        name=f"latency-{name}",
        title=f"{RATE} messages a second to {SHAPE.sockets} sockets: {what}",
        unit="ms",
        reference=f"{bar:g} ms on the machine for which the bar was set",
        included=(
            "From the time at which a message was due to be sent, over HTTP, the whole pipeline and WebSocket, as a "
            "client in C sees it. The audit is off. `more` has all delays of each run, and the hops of another one, "
            "which has trace points."
        ),
        target=1.0,
        wanted="at most",
        pairs=beside_bar([max(measured)] if name == "pause" else measured, bar),
        more={key: [report[key] for report in reports] for key in fields}
        | {f"hop_{hop.name}_ms": round(hop.median_ms, 2) for hop in found},
    )


async def _hops(world: World) -> list[hops.Hop]:
    """Return the hops of a message through a stack whose processes have trace points."""
    with open_folder() as folder:
        traced = {"MILLRACE_EXEC_WRAPPER": "bench.traced", "BENCH_TRACE": str(folder)}
        async with open_stack(**UNLIMITED, **traced) as stack, members(site_of(stack), SHAPE) as clients:
            await clients.do(f"closed {world.warm_s / 2} 16")
            await until_idle(stack)
            hops.forget(folder)
            await clients.do(f"paced {_TRACED_S} {RATE}")
            await until_idle(stack)
        return hops.between(_lines(folder))


def _lines(folder: Path) -> list[str]:
    return [line for file in sorted(folder.glob("*.trace")) for line in file.read_text().splitlines()]
