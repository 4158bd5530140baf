"""Life of a process: its memory is frozen after the start, and SIGTERM or SIGINT ends it."""

from __future__ import annotations

import asyncio
import gc
import signal

_THRESHOLDS = (5_000, 20, 100)
"""Thresholds of the three generations: a full collection comes only after ten million more allocations than frees."""


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def freeze_gc() -> None:
    """Exempt all objects that exist now from garbage collection; call it once, at the end of the start.

    A full collection of a node with thousands of sockets takes tens of milliseconds, and finds only cycles of ended
    connections, which can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
