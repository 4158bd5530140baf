"""Errors that end a trial without a verdict, each told in one line with the seed and the folder of the logs."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from millrace_client import MillraceClientError

from domain.errors import Unavailable
from stack.errors import OperatorError

T = TypeVar("T")
_TRACE = "verify.log"


def cause(exc: BaseException) -> BaseException:
    """Return the first exception of a group."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def reason(exc: BaseException) -> str:
    """Return the text of an error that is raised on purpose; of any other error also the name of its type."""
    exc = cause(exc)
    return (
        str(exc)
        if isinstance(exc, OperatorError | Unavailable | MillraceClientError)
        else f"{type(exc).__name__}: {exc}".rstrip(": ")
    )


@contextmanager
def explained(seed: int, logs: Path | None = None) -> Iterator[None]:
    """Raise any error of the block as an OperatorError, and write its traceback into ``logs``."""
    try:
        yield
    except Exception as exc:  # an edge: its user gets one line, the log the traceback
        where = f"; see the logs in {logs}" if logs is not None else ""
        if logs is not None:
            logs.mkdir(exist_ok=True)
            (logs / _TRACE).write_text(traceback.format_exc())
        raise OperatorError(f"no verdict: {reason(exc)}; seed {seed}{where}") from exc


def raise_if_dead(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    """Raise OperatorError when a client's task has failed: the checker would blame the stack for what it did not do."""
    for task in tasks:
        if task is not None and task.done() and not task.cancelled() and (exc := task.exception()) is not None:
            raise OperatorError(f"a client of the trial died: {reason(exc)}") from exc


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. SIGTERM cancels it as Ctrl-C does: it ends what it has started before
    KeyboardInterrupt is raised."""
    import uvloop

    try:
        return uvloop.run(_heeding(work))
    except asyncio.CancelledError as exc:
        raise KeyboardInterrupt from exc


async def _heeding(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
