"""Dead letters: records with their original bytes, origin and cause; and the headers of those that are replayed.

A replayed record stands in its origin topic again, with the headers of its dead letter. Only the stage that had set it
aside takes notice of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.clock import now
from schemas.codec import Headers, Record
from schemas.ids import new_id
from schemas.topics import dead_letter_topic

PREFIX = "dlq-"
PARKED = "parked"


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """A record as it was consumed."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """Headers of a replayed record: its round, and on the last record of a round how many letters that has seen."""

    failures: int
    letters: int | None


def replay_of(consumed: ConsumerRecord, stage: str) -> Replay | None:
    """Return the headers of a record that is replayed for this stage, else None."""
    headers = dict(consumed.headers)
    if headers.get("dlq-replayed") != stage.encode():
        return None
    return Replay(_number(headers.get("dlq-round")) or 0, _number(headers.get("dlq-last")))


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else None


def dead_letter(stage: str, consumed: ConsumerRecord, cause: str, *, attempts: int) -> Record:
    """Return the dead letter of a record. One that was replayed keeps its first origin, and so its place."""
    origin = f"{consumed.topic}/{consumed.partition}/{consumed.offset}".encode()
    if replay_of(consumed, stage) is not None:
        origin = dict(consumed.headers).get("dlq-origin", origin)
    about: Headers = (
        ("dlq-id", new_id().encode()),
        ("dlq-stage", stage.encode()),
        ("dlq-cause", cause[:300].encode()),
        ("dlq-attempts", str(attempts).encode()),
        ("dlq-origin", origin),
        ("dlq-time", now().encode()),
    )
    return Record(
        dead_letter_topic(stage), consumed.key or b"", consumed.value or b"", (*own_headers(consumed.headers), *about)
    )


def own_headers(headers: Headers) -> Headers:
    """Return the headers that the record had before it was a dead letter."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))
