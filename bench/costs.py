"""CPU of a load by process, with and without that of the stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeAlias

from bench.process import Load

STORES = ("postgres", "valkey")
Read: TypeAlias = Callable[[], Mapping[str, float]]
"""Returns the CPU seconds so far, by process."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of a load by process, the seconds until all of it was done, and what the load client counted."""

    cpu_s: Mapping[str, float]
    took_s: float
    report: Mapping[str, Any]

    def per_core_second(self, names: Iterable[str] | None = None, *, stores: bool = False) -> float:
        """Return the deliveries for a CPU second of these processes, or of all; ``stores`` adds those two."""
        wanted = set(names or self.cpu_s) - set(STORES)
        if stores:
            wanted |= set(STORES)
        spent = sum(seconds for name, seconds in self.cpu_s.items() if name in wanted)
        return float(self.report["deliveries"]) / spent

    def us(self, names: Iterable[str] | None = None) -> float:
        """Return the microseconds of these processes, or of all, for a message."""
        return sum(self.cpu_s.get(name, 0.0) for name in names or self.cpu_s) / float(self.report["messages"]) * 1e6

    def without(self, idle: Mapping[str, float]) -> Cost:
        """Return the cost without what the processes would have used at rest, in shares of a core."""
        spent = {name: seconds - idle.get(name, 0.0) * self.took_s for name, seconds in self.cpu_s.items()}
        return replace(self, cpu_s=spent)


async def cost(clients: Load, command: str, read: Read, rest: Callable[[], Awaitable[None]]) -> Cost:
    """Measure a load, until everything that it caused is done: ``rest`` returns then."""
    clock = asyncio.get_running_loop().time
    await rest()
    before, began = read(), clock()
    report = await clients.do(command)
    await rest()
    after = read()
    return Cost({name: spent - before.get(name, 0.0) for name, spent in after.items()}, clock() - began, report)


async def idle_cores(read: Read, seconds: float) -> dict[str, float]:
    """Return the share of a core that each process uses while nobody asks for anything."""
    clock = asyncio.get_running_loop().time
    before, began = read(), clock()
    await asyncio.sleep(seconds)
    after, took = read(), clock() - began
    return {name: (spent - before.get(name, 0.0)) / took for name, spent in after.items()}


def in_the_middle(costs: Iterable[Cost], idle: Mapping[str, float]) -> dict[str, float]:
    """Return medians for a message: microseconds by process, those that an idle stack would use as well, and speed."""
    given = list(costs)
    names = sorted({name for each in given for name in each.cpu_s})
    us = {f"us_{name}": round(median(each.us([name]) for each in given), 1) for name in names}
    resting = sum(idle.values())
    return {
        **us,
        "us_of_which_idle": round(median(resting * each.took_s / each.report["messages"] for each in given) * 1e6, 1),
        "messages_per_s": round(median(each.report["messages"] / each.report["seconds"] for each in given), 1),
        "last_p50_ms": round(median(each.report["last_p50_ms"] for each in given), 2),
        "post_p50_ms": round(median(each.report["post_p50_ms"] for each in given), 2),
    }
