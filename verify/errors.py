"""How a trial ends that has no verdict: in one line that says what happened, with which seed, and where to look."""

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
    """The first one of a group."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def reason(exc: BaseException) -> str:
    """What is expected says it in its own words, anything else with the name of its type."""
    exc = cause(exc)
    return (
        str(exc)
        if isinstance(exc, OperatorError | Unavailable | MillraceClientError)
        else f"{type(exc).__name__}: {exc}".rstrip(": ")
    )


@contextmanager
def explained(seed: int, logs: Path | None = None) -> Iterator[None]:
    """Whatever goes wrong here is raised as an OperatorError, and leaves its traceback in ``logs``."""
    try:
        yield
    except Exception as exc:  # an edge: its user gets one line, the log the traceback
        where = f"; see the logs in {logs}" if logs is not None else ""
        if logs is not None:
            logs.mkdir(exist_ok=True)
            (logs / _TRACE).write_text(traceback.format_exc())
        raise OperatorError(f"no verdict: {reason(exc)}; seed {seed}{where}") from exc


def raise_if_dead(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    """Raise OperatorError when one has died: what it did not do would be blamed on the stack."""
    for task in tasks:
        if task is not None and task.done() and not task.cancelled() and (exc := task.exception()) is not None:
            raise OperatorError(f"a client of the trial died: {reason(exc)}") from exc


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Its result. SIGTERM ends it as Ctrl-C does: what it started is ended by it before KeyboardInterrupt is raised."""
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
