"""Logs: one JSON line for each record, on standard output; libraries' records go the same way.

An exception is logged by its type and its traceback's places. Its text is logged only for errors of this project: those
of libraries quote their input. Local variables, which hold tokens and bodies, are never logged. Warnings that repeat
are bounded, see ``runtime.log_limit``.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from domain.errors import MillraceError
from runtime.log_limit import LogLimit
from runtime.terminal import buffer_output

_MAX_FIELD = 500
_MAX_FRAMES = 12
# At DEBUG these log requests, records or peers, which belong into no log.
_QUIET = ("websockets", "aiokafka", "faust", "mode", "kafka", "uvicorn.access", "psycopg", "httpx2", "yoyo")


def configure(node: str, level: str = "info") -> None:
    """Set up the logs of this process; ``node`` is in every line."""
    buffer_output()
    number = logging.getLevelName(level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _traced,
        _capped,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                _counted,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(LogLimit().filter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(node=node)


def _counted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add how many lines of this kind were not written before this one."""
    if left_out := getattr(event["_record"], "left_out", 0):
        event["left_out"] = left_out
    return event


def configure_command() -> None:
    """Set up the logs of a command: warnings, as JSON lines on standard error; standard output is for its results.

    Libraries say nothing: the error of a command is one line, and holds what they said.
    """
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _traced,
            _capped,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,  # so that a replaced standard error is heeded
    )


def _traced(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    exc = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(exc, BaseException):
        event["exception"] = described(exc)
    return event


def described(exc: BaseException) -> list[dict[str, Any]]:
    """Return the exception and its causes, outermost first: type, places, and text where it is ours."""
    chain: list[dict[str, Any]] = []
    here: BaseException | None = exc
    while here is not None and len(chain) < _MAX_FRAMES:
        frames = traceback.extract_tb(here.__traceback__)[-_MAX_FRAMES:]
        text = {"text": str(here)} if isinstance(here, MillraceError) else {}
        at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        chain.append({"type": type(here).__name__, **text, "at": at})
        inner = here.exceptions[0] if isinstance(here, BaseExceptionGroup) else None
        here = inner or here.__cause__ or here.__context__
    return chain


def _capped(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > _MAX_FIELD:
            event[key] = value[:_MAX_FIELD] + "…"
    if "logger" in event:  # not ours: asyncio goes on with a task and its exception's text
        event["event"] = str(event["event"]).partition("\n")[0]
    return event
