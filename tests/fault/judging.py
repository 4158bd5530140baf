"""The verdict over a load of chat, from what its clients were answered and shown, the store and the log. Pure.

The invariants are those of docs/reliability.md, named I1 to I19 there.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
from millrace_client import Frame, Listener, LiveConnection, Subscription

from verify.replay.checker import Accepted, Seen, Shown, judge

OK, UNKNOWN = (200, 201), (None, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST, and what became of it as its client saw it. Without a status there was no answer."""

    key: str
    room: str
    sender: str
    content: str
    began: float
    ended: float
    status: int | None
    said: dict[str, Any]
    replayed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the store."""

    room: str
    seq: int
    message_id: str
    sender: str
    key: str
    content: str
    status: int


@dataclass(slots=True)
class Stored:
    """The store, as of one moment."""

    rows: list[Row]
    changes: list[tuple[Any, ...]]
    heads: dict[str, int]


@dataclass(slots=True)
class Screen(Listener):
    """What a member sees."""

    seen: Seen
    frames: dict[int, Shown | None] = field(default_factory=dict)
    shown_at: dict[int, float] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)

    def on_start(self, seq: int) -> None:
        self.seen.after = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        said = orjson.loads(raw)
        message = said.get("message")
        shown = Shown(message["messageId"], message["senderId"], message["content"]) if message else None
        self.seen.seqs.append(seq)
        self.frames[seq] = shown
        self.shown_at[seq] = time.monotonic()

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        self.others.append(orjson.loads(raw))

    def on_disconnected(self, reason: str) -> None:
        """Nothing to judge."""


@dataclass(slots=True)
class Watcher:
    """A member's live connection, and the screen behind it."""

    user: str
    room: str
    live: LiveConnection
    subscription: Subscription
    screen: Screen
    task: asyncio.Task[None] | None = None


def answers_and_rows(attempts: Sequence[Attempt], stored: Stored) -> list[str]:
    """I1 to I4."""
    found, by_key = [], defaultdict(list)
    for row in stored.rows:
        by_key[row.sender, row.key].append(row)
    tried = defaultdict(list)
    for made in attempts:
        tried[made.sender, made.key].append(made)
    for who, attempts in tried.items():
        there = by_key.pop(who, [])
        answers = {(a.said["messageId"], a.said["seq"]) for a in attempts if a.status in OK}
        if len(there) > 1:
            found.append(f"I2: {len(there)} rows of one key {who}")
        if len(answers) > 1:
            found.append(f"I2: different answers for one key {who}: {answers}")
        if answers and [(row.message_id, row.seq) for row in there] != list(answers):
            found.append(f"I1: answered {answers}, stored {there}")
        if there and there[0].content not in {a.content for a in attempts if a.status in (*OK, *UNKNOWN)}:
            found.append(f"I1: {who} is stored with a content that was refused or never sent")
        if there and all(a.status is not None and 400 <= a.status < 429 for a in attempts):
            found.append(f"I4: refused, and stored: {who}")
    found += [f"I3: a row that nobody sent: {who}" for who in by_key]
    return found


def order(attempts: Sequence[Attempt], stored: Stored) -> list[str]:
    """I5 and I8."""
    found, seqs = [], defaultdict(list)
    for room, seq in stored.changes:
        seqs[room].append(seq)
    for room, head in stored.heads.items():
        if seqs[room] != list(range(1, head + 1)):
            found.append(f"I5: the seqs of {room} are not dense up to {head}")
    answered = sorted((a for a in attempts if a.status in OK and not a.replayed), key=lambda a: a.ended)
    last: dict[str, list[Attempt]] = defaultdict(list)
    for made in answered:
        last[made.room].append(made)
    for room, in_order in last.items():
        for one, other in pairwise(in_order):
            if one.ended < other.began and one.said["seq"] >= other.said["seq"]:
                found.append(f"I5: {room} {one.said['seq']} was answered before {other.said['seq']} was sent")
    return found + [f"I8: {row.room} seq {row.seq} is still pending" for row in stored.rows if row.status == 0]


def screens(watchers: Sequence[Watcher], stored: Stored) -> list[str]:
    """I10, and I12 between rows and frames."""
    accepted: dict[str, dict[int, Accepted]] = {room: {} for room in stored.heads}
    for row in stored.rows:
        accepted[row.room][row.seq] = Accepted(row.message_id, row.sender, row.content, 0.0)
    found = []
    for watcher in watchers:
        room, screen = watcher.room, watcher.screen
        verdict = judge(room, stored.heads[room], accepted[room], screen.frames, [screen.seen])
        for kind in ("lost", "doubled", "reordered", "wrong"):
            found += [f"I10 {kind}: {evidence}" for evidence in getattr(verdict, kind)]
    return found


def log(created: Sequence[Any], stored: Stored) -> list[str]:
    """I6, and I12 between rows and the log."""
    said: dict[str, list[int]] = defaultdict(list)
    partitions: dict[str, set[int]] = defaultdict(set)
    contents: dict[tuple[str, int], str] = {}
    for each in created:
        room, message = each.key.decode(), orjson.loads(each.value)["message"]
        partitions[room].add(each.partition)
        if message["seq"] not in said[room]:
            said[room].append(message["seq"])
        contents[room, message["seq"]] = message["content"]
    found = [f"I6: {room} lies in partitions {where}" for room, where in partitions.items() if len(where) > 1]
    wanted = {room: [row.seq for row in stored.rows if row.room == room] for room in stored.heads}
    found += [f"I6: {room}: rows {w}, in the log {said[room]}" for room, w in wanted.items() if said[room] != w]
    differ = [row for row in stored.rows if contents.get((row.room, row.seq), row.content) != row.content]
    return found + [f"I12: {row.room} seq {row.seq}" for row in differ]
