"""Dead letters: records with their original bytes, origin and cause; and the form in which they are replayed.

A replayed record stands in the stage's own retry topic, so no other stage sees it. There it has the headers of its
first place, which it takes again when the stage reads it: a record that fails again makes a newer letter of the same
origin, and the newest letter of an origin counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.clock import now
from schemas.codec import REPLAY, Headers, Record
from schemas.ids import new_id
from schemas.topics import dead_letter_topic, retry_topic

PREFIX = "dlq-"
PARKED = "parked"
LETTER_MAX = 1_500_000
"""Bytes of a record that its letter carries whole: more than the broker takes uncompressed. A few kilobytes that are
compressed may unpack to any size, and their letter must not be too large for its topic: the stage could not go on."""
_KEY_MAX = 1_000
_ORIGIN = re.compile(r"([^/]{1,249})/([0-9]{1,9})/([0-9]{1,18})\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Replay:
    """State of a replay: the failures that were known when its round began, and the attempts of the letter so far.

    ``letters`` is set on the last record of a round, which carries no event: the number of letters that the round saw.
    """

    failures: int
    attempts: int = 0
    letters: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """A record as it was consumed. ``replay`` is set for one that comes from the retry topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    replay: Replay | None = None

    @property
    def is_replay(self) -> bool:
        """Return True when the record was published before: by the relay, or to this stage."""
        return self.replay is not None or REPLAY in self.headers

    @property
    def ends_round(self) -> bool:
        """Return True for the last record of a round."""
        return self.replay is not None and self.replay.letters is not None


def at_origin(stage: str, consumed: ConsumerRecord) -> ConsumerRecord:
    """Return a record of the stage's retry topic as it stood at its origin; any other record as it is."""
    if consumed.topic != retry_topic(stage):
        return consumed
    marks = dict(consumed.headers)
    topic, partition, offset = _place(marks) or (consumed.topic, consumed.partition, consumed.offset)
    replay = Replay(
        failures=_number(marks.get("dlq-round")) or 0,
        attempts=_number(marks.get("dlq-attempts")) or 0,
        letters=_number(marks.get("dlq-end")),
    )
    return ConsumerRecord(topic, partition, offset, consumed.key, consumed.value, own_headers(consumed.headers), replay)


def _place(marks: Mapping[str, bytes]) -> tuple[str, int, int] | None:
    return place_of(marks.get("dlq-origin", b"").decode(errors="replace"))


def place_of(origin: str) -> tuple[str, int, int] | None:
    """Return topic, partition and offset of an origin; None for a text that names no place."""
    found = _ORIGIN.match(origin)
    return (found[1], int(found[2]), int(found[3])) if found is not None else None


def _number(text: bytes | None) -> int | None:
    return number((text or b"").decode(errors="replace"))


def number(text: str) -> int | None:
    """Return the number that a mark holds; None for a text that is none, or that no mark of ours reaches."""
    return int(text) if _NUMBER.match(text) else None


def retry(stage: str, key: bytes, value: bytes, headers: Headers, *, origin: str, replay: Replay) -> Record:
    """Return the record that replays a dead letter for its stage alone."""
    marks: Headers = (
        REPLAY,
        ("dlq-origin", origin.encode()),
        ("dlq-attempts", str(replay.attempts).encode()),
        ("dlq-round", str(replay.failures).encode()),
    )
    return Record(retry_topic(stage), key, value, (*own_headers(headers), *marks))


def round_end(stage: str, conversation_id: str, letters: int) -> Record:
    """Return the last record of a round: it ends the parking, unless more than ``letters`` were set aside."""
    return Record(retry_topic(stage), conversation_id.encode(), b"", (("dlq-end", str(letters).encode()),))


def dead_letter(
    stage: str, consumed: ConsumerRecord, cause: str, *, attempts: int, about: Iterable[tuple[str, str]] = ()
) -> Record:
    """Return the dead letter of a record: of a replayed one with its first origin, and one attempt more.

    ``about``: further headers for operators, without the prefix. The letter of a record of more than LETTER_MAX bytes
    has neither its value nor its headers, and the mark ``cut`` with its size; all of it stands at its origin.
    """
    size = _size(consumed)
    is_whole = size <= LETTER_MAX
    if consumed.replay is not None:
        attempts = consumed.replay.attempts + (1 if attempts else 0)
    marks = {
        "id": new_id(),
        "stage": stage,
        "cause": cause[:300],
        "attempts": str(attempts),
        "origin": f"{consumed.topic}/{consumed.partition}/{consumed.offset}",
        "time": now(),
        **dict(about),
        **({} if is_whole else {"cut": f"{size} bytes"}),
    }
    headers = tuple((f"{PREFIX}{name}", text.encode()) for name, text in marks.items())
    key, topic = consumed.key or b"", dead_letter_topic(stage)
    if not is_whole:
        return Record(topic, key if len(key) <= _KEY_MAX else b"", b"", headers)
    return Record(topic, key, consumed.value or b"", (*own_headers(consumed.headers), *headers))


def _size(consumed: ConsumerRecord) -> int:
    headers = sum(len(name.encode()) + len(value) for name, value in consumed.headers)
    return len(consumed.key or b"") + len(consumed.value or b"") + headers


def own_headers(headers: Headers) -> Headers:
    """Return the headers that the record had before it was a dead letter."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX) and name != REPLAY[0])
