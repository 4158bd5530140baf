"""A load of chat in the form that the checker judges: answers, screens, the store and the log. Pure."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from millrace_client import Frame, Listener, LiveConnection, Subscription

from verify import history
from verify.checker import WITHOUT_WORKLOAD, judge_room
from verify.final_state import FinalState, LogEntry, StoredMessage, digest
from verify.frames import Frames
from verify.history import Room, Sending
from verify.rules.records import CreatedRecord, records_are_the_rows
from verify.rules.violation import Violation
from verify.workload import Send, SendMode

OK, UNKNOWN = (200, 201), (None, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A POST and its outcome as its client saw it. Without a status there was no answer."""

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
    """A member's screen: ``seen`` is judged, the rest is for tests."""

    seen: history.Screen
    frames: Frames
    shown_at: dict[int, float] = field(default_factory=dict)
    raw: dict[int, bytes] = field(default_factory=dict)
    """The frames on the screen, by their seqs."""
    resets: list[int] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)

    def on_start(self, seq: int) -> None:
        self.seen.after = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        self.seen.seqs.append(seq)
        self.seen.times.append(time.monotonic())
        self.frames.same(seq, raw)
        self.shown_at[seq] = time.monotonic()
        self.raw[seq] = raw

    def on_reset(self, seq: int) -> None:
        self.resets.append(seq)
        self.seen.reset(seq)
        for frames in (self.raw, self.frames.by_seq):
            for above in [each for each in frames if each > seq]:
                del frames[above]

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        self.others.append(orjson.loads(raw))

    def on_disconnected(self, reason: str) -> None:
        """Ignore it: there is nothing to judge."""


@dataclass(slots=True)
class Watcher:
    """A member's live connection, and the screen behind it."""

    user: str
    room: str
    live: LiveConnection
    subscription: Subscription
    screen: Screen
    task: asyncio.Task[None] | None = None


def judged(
    attempts: Sequence[Attempt], watchers: Sequence[Watcher], frames: Mapping[str, Frames], stored: Stored
) -> list[str]:
    """Return what the checker finds in all conversations."""
    found = []
    for conversation_id, head in stored.heads.items():
        room = Room(conversation_id=conversation_id, frames=frames[conversation_id])
        room.sendings += sendings([each for each in attempts if each.room == conversation_id])
        for watcher in watchers:
            if watcher.room == conversation_id:
                watcher.screen.seen.gaps = watcher.subscription.sync.gaps
                room.screens.append(watcher.screen.seen)
        found += judge_room(room, state_of(conversation_id, head, stored), WITHOUT_WORKLOAD)
    return [text_of(violation) for violation in found]


def sendings(attempts: Sequence[Attempt]) -> list[Sending]:
    """Return the attempts by their keys. Where contents differ, the one that was accepted counts, or the first."""
    by_key: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_key[attempt.sender, attempt.key].append(attempt)
    made = []
    for (sender, key), tries in by_key.items():
        content = next((each.content for each in tries if each.status in OK), tries[0].content)
        send = Send(at=0.0, sender=sender, key=key, content=content, mode=SendMode.PLAIN)
        same = [answer_of(each) for each in tries if each.content == content]
        made.append(Sending(send, same, [answer_of(each) for each in tries if each.content != content]))
    return made


def answer_of(attempt: Attempt) -> history.Attempt:
    """Return the attempt as the checker knows it; 429 and 5xx say as little of the outcome as no answer."""
    status = None if attempt.status in UNKNOWN else attempt.status
    ok = attempt.status in OK
    id_, seq = (attempt.said["messageId"], attempt.said["seq"]) if ok else ("", 0)
    return history.Attempt(attempt.began, attempt.ended, status, id_, seq, "" if ok else attempt.said.get("code", ""))


def state_of(conversation_id: str, head: int, stored: Stored) -> FinalState:
    """Return one conversation of the store."""
    rows = [
        StoredMessage(row.message_id, row.room, row.seq, row.sender, row.key, digest(row.content), row.status)
        for row in stored.rows
        if row.room == conversation_id
    ]
    ids = {row.seq: row.message_id for row in rows}
    seqs = [seq for room, seq in stored.changes if room == conversation_id]
    entries = [LogEntry(seq, "message" if seq in ids else "other", ids.get(seq)) for seq in seqs]
    return FinalState(conversation_id, head, rows, entries)


def log(created: Sequence[Any], stored: Stored) -> list[str]:
    """I6, and I12 between rows and the log."""
    records: dict[str, list[CreatedRecord]] = defaultdict(list)
    for each in created:
        message = orjson.loads(each.value)["message"]
        record = CreatedRecord(each.partition, message["seq"], digest(message["content"]))
        records[each.key.decode()].append(record)
    states = (state_of(id_, head, stored) for id_, head in stored.heads.items())
    return [text_of(v) for state in states for v in records_are_the_rows(records[state.conversation_id], state)]


def text_of(violation: Violation) -> str:
    return f"{violation.invariant} {violation.sort}: {violation.text}"
