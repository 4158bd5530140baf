"""Whole stack for a measurement, in a folder that is removed after the run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from bench.machine import family_cpu_s
from bench.process import BenchError, running
from bench.world import open_folder
from stack.running import RunningStack, running_stack

UNLIMITED = {
    "MILLRACE_LIMITS__FACTORS": "*=0",
    "MILLRACE_AUDIT__INTERVAL_S": "0",
    "MILLRACE_HTTP__MESSAGES_PER_USER": "0",
    "MILLRACE_HTTP__CONNECTIONS_PER_ADDRESS": "0",
    "MILLRACE_GATEWAY__CONNECTIONS_PER_ADDRESS": "0",
    "MILLRACE_GATEWAY__CONNECTS_PER_S_ADDRESS": "0",
    "MILLRACE_GATEWAY__FRAMES_PER_S": "0",
    "MILLRACE_NOTIFICATIONS__AFTER_S": "3600",
}
"""Settings for a load whose clients share one address, and whose messages are one user's.

The audit, which looks at everything now and then, is off. Nobody is notified of what a load client does not
acknowledge: a real one would have acknowledged it, and the work comes later than the measurement.
"""
_IDLE = 0.35
"""Share of a core that an idle stack uses, with a margin."""
_LOOK_S = 0.25


@asynccontextmanager
async def open_stack(**settings: str) -> AsyncIterator[RunningStack]:
    """Run a stack with these variables while the block runs. Raises BenchError when it does not start."""
    with open_folder() as data:
        argv = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--with-parent", "--json"]
        async with running("millrace up", argv, env=settings) as process:
            async with asyncio.timeout(180):
                if orjson.loads(await process.line())["state"] != "ready":
                    raise BenchError("the stack did not start")
            yield running_stack(data)
            process.process.terminate()
            async with asyncio.timeout(60):
                await process.process.wait()


def cpu_by_process(stack: RunningStack) -> dict[str, float]:
    """Return the CPU seconds so far of each process of a stack, the servers too."""
    return {process["name"]: family_cpu_s(process["pid"]) for process in stack.processes if process["pid"]}


async def until_idle(stack: RunningStack, quiet_s: float = 2 * _LOOK_S, within_s: float = 60.0) -> None:
    """Wait until the stack has worked off its load, and rests for so long. Raises BenchError."""
    clock = asyncio.get_running_loop().time
    end, quiet = clock() + within_s, 0.0
    while clock() < end:
        before, at = family_cpu_s(stack.supervisor), clock()
        await asyncio.sleep(_LOOK_S)
        took = clock() - at
        quiet = quiet + took if (family_cpu_s(stack.supervisor) - before) / took < _IDLE else 0.0
        if quiet >= quiet_s:
            return
    raise BenchError("the stack did not come to rest")
