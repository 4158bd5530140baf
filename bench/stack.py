"""Whole stack for a measurement, in a folder that is removed after the run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from bench.process import BenchError, running
from bench.world import open_folder
from stack.running import RunningStack, running_stack


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
