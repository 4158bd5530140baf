"""Dead letters: a record with its original bytes, where it came from and why it is here; and those that are replayed.

A replayed record stands in its origin topic again, with the headers of its dead letter. Only the stage that had set it
aside takes notice of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.clock import now
from schemas.codec import Headers, Record
from schemas.ids import new_id

PREFIX = "dlq-"
PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Taken:
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replayed record says: in which round, and in the last one of a round, how many letters that has seen."""

    failures: int
    letters: int | None


def replay_of(taken: Taken, stage: str) -> Replay | None:
    """What it says when it is replayed for this stage."""
    said = dict(taken.headers)
    if said.get("dlq-replayed") != stage.encode():
        return None
    return Replay(_number(said.get("dlq-round")) or 0, _number(said.get("dlq-last")))


def _number(said: bytes | None) -> int | None:
    return int(said) if said is not None and said.isdigit() and len(said) < 10 else None


def dead_letter(stage: str, taken: Taken, cause: str, *, attempts: int) -> Record:
    """The record for the stage's dead letters. One that was replayed keeps its first origin, and so its place."""
    origin = f"{taken.topic}/{taken.partition}/{taken.offset}".encode()
    if replay_of(taken, stage) is not None:
        origin = dict(taken.headers).get("dlq-origin", origin)
    about: Headers = (
        ("dlq-id", new_id().encode()),
        ("dlq-stage", stage.encode()),
        ("dlq-cause", cause[:300].encode()),
        ("dlq-attempts", str(attempts).encode()),
        ("dlq-origin", origin),
        ("dlq-time", now().encode()),
    )
    return Record(f"{stage}.dlq", taken.key or b"", taken.value or b"", (*own_headers(taken.headers), *about))


def own_headers(headers: Headers) -> Headers:
    """Those that the record had before it was a dead letter."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))
