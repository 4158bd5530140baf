"""Reads chat logs of IRC channels as events. Pure.

Understands ``[hh:mm] <nick> text``, actions as ``[hh:mm]  * nick text`` or ``=== nick text``, and joins, parts and
renames as ``=== …``. Everything else that is not empty is a bare line, said by the channel itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Join:
    """A nick joined the channel."""

    nick: str


@dataclass(frozen=True, slots=True)
class Part:
    """A nick left the channel."""

    nick: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A nick was renamed; the user stays the same."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Say:
    """A line of text or an action; ``nick`` is None for a bare line. ``minute`` counts from midnight."""

    nick: str | None
    text: str
    minute: int | None = None


Happening: TypeAlias = Join | Part | Rename | Say

_SAID = re.compile(r"\[(\d\d):(\d\d)\] <([^>\s]+)> ?(.*)", re.DOTALL)
_DID = re.compile(r"\[(\d\d):(\d\d)\]\s+\* (\S+) ?(.*)", re.DOTALL)
_TIMED = re.compile(r"\[(\d\d):(\d\d)\] ?(.*)", re.DOTALL)
_JOIN = re.compile(r"=== (\S+) (?:\[[^\]]*\]\s+)?(?:has )?joined #\S+", re.IGNORECASE)
_PART = re.compile(r"=== (\S+) (?:\[[^\]]*\]\s+)?has (?:left|quit)\b", re.IGNORECASE)
_RENAME = re.compile(r"=== (\S+) is now known as (\S+)")
_ACTION = re.compile(r"=== (\S+) (.+)", re.DOTALL)
_CODES = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|[\x02\x0f\x11\x16\x1d\x1e\x1f]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff]")


def read(raw: bytes) -> list[Happening]:
    """Return the events in the log's order. Bytes that are no UTF-8 become U+FFFD."""
    # Only \n ends a line: other separators occur inside of what people said.
    lines = raw.decode("utf-8", "replace").split("\n")
    people = set(_people(lines))
    return [happening for line in lines if line.strip() for happening in _read_line(line.rstrip("\r"), people)]


def _people(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if found := _SAID.match(line) or _DID.match(line):
            yield found[3]
        elif found := _JOIN.match(line) or _PART.match(line):
            yield found[1]
        elif found := _RENAME.match(line):
            yield from found.groups()


def _read_line(line: str, people: set[str]) -> Iterator[Happening]:
    if found := _SAID.match(line):
        yield Say(found[3], clean(found[4]), _minute(found))
    elif found := _DID.match(line):
        yield Say(found[3], clean(f"* {found[3]} {found[4]}"), _minute(found))
    elif found := _JOIN.match(line):
        yield Join(found[1])
    elif found := _PART.match(line):
        yield Part(found[1])
    elif found := _RENAME.match(line):
        yield Rename(found[1], found[2])
    elif (found := _ACTION.match(line)) and found[1] in people:
        yield Say(found[1], clean(f"* {found[1]} {found[2]}"))
    elif found := _TIMED.match(line):
        yield Say(None, clean(found[3]), _minute(found))
    else:
        yield Say(None, clean(line))


def _minute(found: re.Match[str]) -> int:
    return int(found[1]) * 60 + int(found[2])


def clean(text: str) -> str:
    """Return the text without colour and format codes. Other control characters, which no message may hold, become
    U+FFFD; an empty text becomes a middle dot."""
    return _CONTROLS.sub("\ufffd", _CODES.sub("", text)).strip() or "\u00b7"


def user_id(nick: str) -> str:
    """Return the nick as a user id: readable, and different for different nicks."""
    return "irc:" + "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f".{ord(c):x}." for c in nick)[:60]


def minutes(happenings: Iterable[Happening]) -> list[int]:
    """Return the minute of the day of each event; an event without a time has that of the one before. A clock that goes
    back is past midnight."""
    at, days, times = 0, 0, []
    first = next((h.minute for h in happenings if isinstance(h, Say) and h.minute is not None), 0)
    for happening in happenings:
        minute = happening.minute if isinstance(happening, Say) and happening.minute is not None else None
        if minute is not None:
            minute += days * 1440 - first
            if minute < at - 720:
                days, minute = days + 1, minute + 1440
            at = max(at, minute)
        times.append(at)
    return times


def present_from_start(happenings: Iterable[Happening]) -> list[str]:
    """Return the nicks that were present when the log begins: they speak, leave or are renamed before they join."""
    known: set[str] = set()
    there: dict[str, None] = {}
    for happening in happenings:
        match happening:
            case Join(nick):
                known.add(nick)
            case Say(str() as nick) | Part(nick) | Rename(nick):
                if nick not in known:
                    there[nick] = None
                known.add(nick)
                if isinstance(happening, Rename):
                    known.add(happening.new)
            case _:
                pass
    return list(there)
