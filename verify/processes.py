"""What the processes of a stack did on their own: their ends, their dead letters, and errors in their logs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from adapters.kafka.reader import KafkaReader
from schemas.topics import dead_letter_topic, stages
from stack.running import STATE
from stack.servers.data_dir import DataDir
from verify.observations import DeadLetter, ProcessEnd, Traceback

MARKS = (
    "Traceback (most recent call last)",
    "Unhandled exception",
    "exception was never retrieved",
    "exception was never awaited",
    "was never awaited",
    "request_failed",
)
"""Texts by which a log tells of an error that nobody handled."""
_PATTERN = re.compile("|".join(re.escape(mark) for mark in MARKS).encode())
_AT = re.compile(rb'"at": ?"(\d{4}-[0-9T:.\-]+Z?)"')


def ends_of(data: Path) -> list[ProcessEnd]:
    """Return the ends that the supervisor has written down, by the monotonic clock of this machine."""
    ahead = time.time() - time.monotonic()
    ends = DataDir(data).read(STATE).get("ends", [])
    return [ProcessEnd(end["name"], datetime.fromisoformat(end["at"]).timestamp() - ahead, end["code"]) for end in ends]


def find_tracebacks(logs: Path) -> list[Traceback]:
    """Return the lines of all logs that tell of an error which nobody handled, by their time and mark alone."""
    return [found for log in sorted(logs.glob("*.log*")) for found in _tracebacks(log)]


def _tracebacks(log: Path) -> Iterator[Traceback]:
    at = ""
    with log.open("rb") as lines:
        for line in lines:
            stamp = _AT.search(line)
            at = stamp[1].decode() if stamp is not None else at
            if mark := _PATTERN.search(line):
                yield Traceback(log.name, at, mark[0].decode())


async def read_letters(reader: KafkaReader) -> list[DeadLetter]:
    """Return the dead letters of all stages. Raises Unavailable."""
    by_topic = {dead_letter_topic(stage): stage for stage in stages()}
    begins = await reader.begins(list(by_topic), 0)
    offsets = {(topic, n): begin.offset for topic in by_topic for n, begin in enumerate(begins.topics[topic])}
    letters: list[DeadLetter] = []
    async for batch in reader.read(offsets):
        for record in batch:
            marks = dict(record.headers)
            origin = marks.get("dlq-origin", b"").partition(b"/")[0].decode(errors="replace")
            cause = marks.get("dlq-cause", b"").decode(errors="replace")
            letters.append(DeadLetter(by_topic[record.topic], origin, cause, record.key or b"", record.value or b""))
    return letters
