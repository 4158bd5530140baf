"""The letters of a stage as operators see them: the newest of each origin, with its state; and a choice among them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.event_log import ConsumedRecord
from domain.parking import Closed
from schemas.codec import Headers
from schemas.ids import is_uuid
from streams.dead_letters import number, place_of

OPEN = "open"


@dataclass(frozen=True, slots=True)
class Letter:
    """Dead letter of a stage. ``place`` names it: partition/offset. ``closed`` is None while it is open."""

    id: str
    place: str
    conversation_id: str
    origin: str
    cause: str
    attempts: int
    time: str
    key: bytes
    value: bytes
    headers: Headers
    closed: Closed | None = None

    @property
    def state(self) -> str:
        """Return ``open``, ``handled`` or ``discarded``."""
        return OPEN if self.closed is None else self.closed.outcome.value

    @property
    def order(self) -> tuple[str, int, int]:
        """Return the sort key: the first place of the record, which its letter keeps when a replay fails."""
        return place_of(self.origin) or ("", 0, 0)


def newest(records: Iterable[ConsumedRecord], closed: Mapping[str, Closed]) -> list[Letter]:
    """Return the newest letter of each origin, in the order of the topic. ``closed``: letter id → its end."""
    by_origin: dict[str, Letter] = {}
    for record in records:
        letter = _letter(record, closed)
        by_origin.pop(letter.origin, None)
        by_origin[letter.origin] = letter
    return list(by_origin.values())


def _letter(record: ConsumedRecord, closed: Mapping[str, Closed]) -> Letter:
    marks = {name: value.decode(errors="replace") for name, value in record.headers if name.startswith("dlq-")}
    place = f"{record.partition}/{record.offset}"
    id_ = marks.get("dlq-id", "")
    if not is_uuid(id_):
        id_ = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{record.topic}/{place}"))
    origin = marks.get("dlq-origin", "")
    return Letter(
        id=id_,
        place=place,
        conversation_id=(record.key or b"").decode(errors="replace"),
        origin=origin if place_of(origin) else f"{record.topic}/{place}",
        cause=marks.get("dlq-cause", "unknown"),
        attempts=number(marks.get("dlq-attempts", "")) or 0,
        time=marks.get("dlq-time", ""),
        key=record.key or b"",
        value=record.value or b"",
        headers=record.headers,
        closed=closed.get(id_),
    )


def open_by_conversation(letters: Iterable[Letter]) -> dict[str, list[Letter]]:
    """Return the open letters of each conversation."""
    found: dict[str, list[Letter]] = {}
    for letter in letters:
        if letter.closed is None:
            found.setdefault(letter.conversation_id, []).append(letter)
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among letters; None chooses all. ``since`` and ``until`` are bounds of their time, in RFC 3339 UTC."""

    conversation_id: str | None = None
    cause: str | None = None
    since: str | None = None
    until: str | None = None

    def includes(self, letter: Letter) -> bool:
        """Return True for a letter within all bounds. A cause is chosen by its whole text or by its first word."""
        return (
            self.conversation_id in (None, letter.conversation_id)
            and self.cause in (None, letter.cause, letter.cause.partition(":")[0])
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )

    @property
    def is_of_conversations(self) -> bool:
        """Return True when nothing but the conversation is chosen, so that whole conversations are meant."""
        return self.cause is None and self.since is None and self.until is None
