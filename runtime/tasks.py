"""Background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

_log = structlog.get_logger()


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task that still runs, wait for its end, and take its outcome, which nobody wants any more: asyncio
    reports an error that nobody has taken."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


class Tasks:
    """Background tasks of one owner. Keeps a reference (asyncio does not) and logs failures."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return the number of running tasks."""
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, None], failed: Callable[[], None] | None = None) -> None:
        """Start a task. An exception that leaves it is logged, and then ``failed`` is called."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(partial(self._ended, failed))

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in self._running:
            task.cancel()

    def _ended(self, failed: Callable[[], None] | None, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            _log.error("task_failed", task=task.get_name(), reason=type(exc).__name__, exc_info=exc)
            if failed is not None:
                failed()
