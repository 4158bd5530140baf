"""The life of a process: settled once, and told to end once, by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import signal

_THRESHOLDS = (5_000, 20, 100)
"""Of the three generations; a full collection only after ten million allocations that outlived their frees."""


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()


def settled() -> None:
    """Everything that stays for the life of the process is there: the garbage collector need not look at it again.

    A full collection of a node with thousands of sockets takes tens of milliseconds; what it would find here are
    cycles of ended connections, which can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
