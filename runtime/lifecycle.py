"""Life of a process: its memory is frozen after the start, and SIGTERM or SIGINT ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import NoReturn

import structlog

from domain.errors import AccessRefused, MillraceError, Unavailable

_log = structlog.get_logger()

EX_TEMPFAIL, EX_NOPERM = 75, 77
_THRESHOLDS = (5_000, 20, 100)
"""Thresholds of the three generations: a full collection comes only after ten million more allocations than frees."""


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def end_process(exc: Unavailable) -> NoReturn:
    """End a process that cannot work: EX_NOPERM when a server refuses it, else EX_TEMPFAIL. The log says why."""
    code = EX_NOPERM if isinstance(exc, AccessRefused) else EX_TEMPFAIL
    _log.error("process_cannot_work", reason=str(exc), code=code)
    sys.exit(code)


def inner_of(exc: BaseException | None) -> BaseException | None:
    """Return the first exception in a group of groups; what is no group as it is."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def reason_of(exc: BaseException | None) -> str:
    """Return the text of an error of this project, for the log; of another one its type alone."""
    return str(exc) if isinstance(exc, MillraceError) else type(exc).__name__


def freeze_gc() -> None:
    """Exempt all objects that exist now from garbage collection; call it once, at the end of the start.

    A full collection of a node with thousands of sockets takes tens of milliseconds, and finds only cycles of ended
    connections, which can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
