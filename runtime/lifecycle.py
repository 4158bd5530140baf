"""The end of a process: told once, by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
