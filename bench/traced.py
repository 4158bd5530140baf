"""``python -m bench.traced MODULE ARG…``: a process of ours with trace points, for the table of hops.

It stands in MILLRACE_EXEC_WRAPPER, and wraps methods when the process starts; the product has no trace points.
Each point is a line ``time point message-id`` in a file of the process, in the folder BENCH_TRACE; the time is
CLOCK_MONOTONIC in nanoseconds, the same for all processes of a machine.
"""

from __future__ import annotations

import functools
import inspect
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

Ids: TypeAlias = Callable[[tuple[Any, ...], Any], Iterable[str]]
"""(arguments of a call, its result) → ids of the messages that it is about."""
_MESSAGE_ID, _NEW = b'"messageId":"', b'"new_message"'


@dataclass(frozen=True, slots=True)
class Trace:
    """Points of a method of the processes that run ``module``: where a call begins, and where it ends."""

    module: str
    method: str
    ids: Ids
    begins: str = ""
    ends: str = ""


def _answered(_: tuple[Any, ...], answer: Any) -> Iterator[str]:
    yield answer.body.message_id


def _drafts(args: tuple[Any, ...], _: Any) -> list[str]:
    return [draft.message_id for draft in args[1]]


def _records(topic: str) -> Ids:
    """Return the messages of records: the id of a completion begins with that of its message."""

    def ids(args: tuple[Any, ...], _: Any) -> list[str]:
        return [_event_id(record.headers) for record in args[1] if record.topic == topic]

    return ids


def _event(args: tuple[Any, ...], _: Any) -> list[str]:
    message = args[2].message
    return [_event_id(record.headers) for record in message.records if record.topic == "message.created"]


def _created(args: tuple[Any, ...], _: Any) -> list[str]:
    return [event.message.message_id for event in args[1] if event.TOPIC == "message.created"]


def _claimed(args: tuple[Any, ...], _: Any) -> list[str]:
    return [message.message_id for message in args[1]]


def _frame(args: tuple[Any, ...], _: Any) -> list[str]:
    frame: bytes = args[2]
    at = frame.find(_MESSAGE_ID)
    begin = at + len(_MESSAGE_ID)
    return [frame[begin : begin + 36].decode()] if at >= 0 and _NEW in frame[:40] else []


def _event_id(headers: Any) -> str:
    pairs = headers.items() if isinstance(headers, dict) else headers
    return bytes(dict(pairs)["ce_id"]).decode().partition(":")[0]


TRACES = (
    Trace("ingest", "ingest.http.messages:MessageEndpoints.send", _answered, begins="handler", ends="answered"),
    Trace("ingest", "adapters.postgres.intake:PostgresIntake.accept_plain", _drafts, begins="batch", ends="stored"),
    Trace("ingest", "adapters.kafka.producer:KafkaLog.append", _records("message.created"), ends="produced"),
    Trace("streams", "streams.worker:Worker._enqueue", _event, begins="event"),
    Trace("streams", "streams.stages.status:HandleStatus.__call__", _created, begins="handled"),
    Trace("streams", "adapters.postgres.statuses:PostgresStatuses.mark_sent", _claimed, ends="marked"),
    Trace("streams", "adapters.kafka.producer:KafkaLog.append", _records("message.sent"), ends="completed"),
    Trace("gateway", "gateway.dispatcher:Dispatcher._confirmed", _records("message.sent"), begins="dispatcher"),
    Trace("gateway", "gateway.hub:Room.release", _frame, ends="written"),
)
_STAGE = "status"
"""Stage on which users wait; the others have no trace points."""


def owner_of(trace: Trace) -> tuple[Any, str]:
    """Return the class of a method and its name there. Raises AttributeError or ImportError when it is gone."""
    module, _, path = trace.method.partition(":")
    class_, _, name = path.partition(".")
    owner = getattr(import_module(module), class_)
    getattr(owner, name)
    return owner, name


def wrapped(original: Callable[..., Any], trace: Trace, note: Callable[[str], None]) -> Callable[..., Any]:
    """Return the method with its points. A call that raises is not noted, nor one whose messages cannot be told."""

    def note_call(args: tuple[Any, ...], result: Any, began: int) -> None:
        ended = time.monotonic_ns()
        try:
            ids = list(trace.ids(args, result))
        except (AttributeError, KeyError, IndexError, TypeError):
            return
        times = [(name, at) for name, at in ((trace.begins, began), (trace.ends, ended)) if name]
        if text := "".join(f"{at} {name} {id_}\n" for id_ in ids for name, at in times):
            note(text)

    @functools.wraps(original)
    async def awaited(*args: Any, **more: Any) -> Any:
        began = time.monotonic_ns()
        result = await original(*args, **more)
        note_call(args, result, began)
        return result

    @functools.wraps(original)
    def called(*args: Any, **more: Any) -> Any:
        began = time.monotonic_ns()
        result = original(*args, **more)
        note_call(args, result, began)
        return result

    return awaited if inspect.iscoroutinefunction(original) else called


def install(argv: list[str], folder: str) -> None:
    """Wrap what the process of this command line has."""
    wanted = [t for t in TRACES if t.module == argv[0] and (t.module != "streams" or argv[1:] == [_STAGE])]
    file = os.open(f"{folder}/{argv[-1]}-{os.getpid()}.trace", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def note(text: str) -> None:
        os.write(file, text.encode())

    for trace in wanted:
        try:
            owner, name = owner_of(trace)
        except (AttributeError, ImportError):
            print(f"bench.traced: there is no {trace.method}", file=sys.stderr)
            continue
        setattr(owner, name, wrapped(getattr(owner, name), trace, note))


if __name__ == "__main__":
    install(sys.argv[1:], os.environ["BENCH_TRACE"])
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
