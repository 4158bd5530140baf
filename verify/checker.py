"""The verdict: what clients were answered and shown, against what the store holds. Pure.

The numbers are those of the invariants in docs/reliability.md. An outcome that a client cannot know is neither success
nor failure: such a message may be stored or not, but at most once, and as it was sent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from verify.final_state import Row, Truth, digest
from verify.history import Blow, Evidence, Room, Screen, Try
from verify.workload import Way

GRACE_S = 8.0
"""How long after the answer that a membership has ended something may still arrive."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise. ``sort`` is what a person calls it: lost, doubled, reordered, wrong, or slow."""

    invariant: str
    sort: str
    text: str


RECOVERY_S = 15.0
"""Within this time after the fault of one process everything flows again."""

Rule = Callable[[Room, Truth], Iterator[Violation]]


def judge(evidence: Evidence, truths: Sequence[Truth]) -> list[Violation]:
    """Everything that was broken, with its evidence."""
    found: list[Violation] = []
    for room, truth in zip(evidence.rooms, truths, strict=True):
        for rule in RULES:
            found += rule(room, truth)
    found += [_slow(blow) for blow in evidence.blows if blow.single and blow.recovery_s > RECOVERY_S]
    found += [Violation("I8/I13", "wrong", text) for text in evidence.fallen]
    found += [Violation("audit", "wrong", text) for text in evidence.audit]
    found += [Violation("I16", "wrong", text) for text in evidence.leaks]
    if evidence.quiet_s is None:
        found += [Violation("I14", "wrong", f"still waiting at the end: {text}") for text in evidence.waiting]
    return found


def _slow(blow: Blow) -> Violation:
    return Violation("I14", "slow", f"{blow.name}: recovered only after {blow.recovery_s:.1f} s")


def accepted_is_stored(room: Room, truth: Truth) -> Iterator[Violation]:
    """I1: each 2xx has its row: same id, same seq, same content, under its key."""
    rows = {row.message_id: row for row in truth.rows}
    for sending in room.sendings:
        for answer in (t for t in sending.tries if t.ok):
            row = rows.get(answer.message_id)
            what = f"{truth.conversation_id} message {answer.message_id} seq {answer.seq}"
            if row is None:
                yield Violation("I1", "lost", f"{what} was accepted and is not stored")
            elif (row.seq, row.sender_id) != (answer.seq, sending.send.sender):
                yield Violation("I1", "wrong", f"{what} is stored as seq {row.seq} of another place or sender")
            elif row.digest != digest(sending.send.content):
                yield Violation("I12", "wrong", f"{what} is stored with other content")


def one_key_one_message(room: Room, truth: Truth) -> Iterator[Violation]:
    """I2: all answers for one key agree, and there is at most one row for it."""
    for sending in room.sendings:
        ids = {t.message_id for t in sending.tries if t.ok}
        if len(ids) > 1:
            yield Violation("I2", "doubled", f"key {sending.send.key} was answered with {len(ids)} messages: {ids}")
    for (sender, key), count in Counter((row.sender_id, row.key) for row in truth.rows).items():
        if key is not None and count > 1:
            yield Violation("I2", "doubled", f"{sender} key {key} is stored {count} times")


def stored_was_sent(room: Room, truth: Truth) -> Iterator[Violation]:
    """I3: each row was attempted by its sender, as it is. I4: what was refused is not there."""
    by_key = {(s.send.sender, s.send.key): s for s in room.sendings}
    for row in truth.rows:
        sending = by_key.get((row.sender_id, row.key or ""))
        what = f"{truth.conversation_id} seq {row.seq} message {row.message_id}"
        if sending is None:
            yield Violation("I3", "doubled", f"{what} was never sent like this")
        elif row.digest != digest(sending.send.content):
            yield Violation("I4", "wrong", f"{what} holds a content that was refused or never sent")
        elif sending.send.way is Way.STRANGER:
            yield Violation("I4", "wrong", f"{what} is by somebody who is no member")
        elif not sending.accepted and not sending.unknown:
            yield Violation("I4", "wrong", f"{what} was refused and is stored")


def refusals_are_right(room: Room, truth: Truth) -> Iterator[Violation]:
    """I4: strangers are told 404, other content under a used key 422, nobody else is refused, and nothing is a bug."""
    for sending in room.sendings:
        way, key = sending.send.way, sending.send.key
        for answer in sending.other:
            if answer.ok or answer.code not in ("", "idempotency_mismatch", "unavailable", "rate_limited"):
                yield Violation("I4", "wrong", f"key {key} with other content was answered {_said(answer)}")
        for answer in sending.tries:
            if answer.code == "internal":
                yield Violation("I4", "wrong", f"key {key} was answered {_said(answer)}")
            if way is Way.STRANGER and (answer.ok or (answer.refused and answer.code != "not_found")):
                yield Violation("I4", "wrong", f"key {key} of a stranger was answered {_said(answer)}")
            if way is not Way.STRANGER and answer.refused:
                yield Violation("I4", "wrong", f"key {key} of a member was answered {_said(answer)}")


def seqs_are_dense(room: Room, truth: Truth) -> Iterator[Violation]:
    """I5: 1 to n without holes; what was answered before another was sent comes before it."""
    seqs = [entry.seq for entry in truth.entries]
    if seqs != list(range(1, truth.head + 1)):
        yield Violation("I5", "lost", f"{truth.conversation_id}: the change log is not 1..{truth.head}")
    answered = sorted((a.ended, a.seq) for a in (s.accepted for s in room.sendings) if a is not None)
    begun = sorted((s.tries[0].began, a.seq, s.send.key) for s in room.sendings if (a := s.accepted) is not None)
    highest, done = 0, 0
    for began, seq, key in begun:
        while done < len(answered) and answered[done][0] < began:
            highest = max(highest, answered[done][1])
            done += 1
        if seq < highest:
            text = f"key {key} has seq {seq}, though {highest} was answered before it was sent"
            yield Violation("I5", "reordered", f"{truth.conversation_id} {text}")


def screens_are_whole(room: Room, truth: Truth) -> Iterator[Violation]:
    """I10: on each screen every seq once, in order, from the join to the head."""
    for screen in room.screens:
        yield from _screen(screen, truth)


def _screen(screen: Screen, truth: Truth) -> Iterator[Violation]:
    where = f"{truth.conversation_id} on the {screen.seat.device} ({screen.seat.kind}) of {screen.seat.user}"
    until = truth.head
    if screen.until is not None and screen.removed_at is None:
        yield Violation("I10", "lost", f"{where}: a member was put out after {screen.until}")
    elif screen.until is not None:
        until = screen.until
    last, seen = screen.after, set[int]()
    for seq in screen.seqs:
        if seq <= last:
            yield Violation("I10", "doubled" if seq in seen else "reordered", f"{where}: {seq} after {last}")
        elif seq > last + 1:
            yield Violation("I10", "lost", f"{where}: {last + 1}..{seq - 1} are missing")
        seen.add(seq)
        last = max(last, seq)
    if last < until:
        yield Violation("I10", "lost", f"{where}: {last + 1}..{until} never came")
    if screen.gaps:
        yield Violation("I10", "reordered", f"{where}: {screen.gaps} frames came too early on the wire")


def frames_say_what_was_sent(room: Room, truth: Truth) -> Iterator[Violation]:
    """I12: what is on the screens is the change log, and in each message what was accepted; no message twice."""
    rows = {row.seq: row for row in truth.rows}
    kinds = {entry.seq: entry.kind for entry in truth.entries}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for seq, raw in sorted(room.frames.by_seq.items()):
        said = orjson.loads(raw)
        if said["type"] == "new_message":
            places[said["message"]["messageId"]].append(seq)
        if not _agrees(said, rows.get(seq), kinds.get(seq)):
            yield Violation("I12", "wrong", f"{truth.conversation_id} seq {seq}: the frame is not what is stored")
    for message_id, seqs in places.items():
        if len(seqs) > 1:
            yield Violation("I10", "doubled", f"{truth.conversation_id} message {message_id} is shown as {seqs}")
    for seq in room.frames.differing:
        yield Violation("I12", "wrong", f"{truth.conversation_id} seq {seq}: screens were shown different frames")


def _agrees(said: dict[str, object], row: Row | None, kind: str | None) -> bool:
    if said["type"] != "new_message":
        return row is None and kind is not None and kind != "message"
    message = said["message"]
    assert isinstance(message, dict)
    return row is not None and (row.message_id, row.sender_id, row.digest) == (
        message["messageId"],
        message["senderId"],
        digest(message["content"]),
    )


def members_only(room: Room, truth: Truth) -> Iterator[Violation]:
    """I11: nothing to strangers, and nothing after the end of a membership."""
    if room.strange:
        yield Violation("I11", "wrong", f"{truth.conversation_id}: {room.strange} frames reached a stranger")
    if not room.refused:
        yield Violation("I11", "wrong", f"{truth.conversation_id}: a stranger was never told that it is none of theirs")
    for screen in room.screens:
        if screen.removed_at is None:
            continue
        out = screen.removed_at + GRACE_S
        late = [seq for seq, at in zip(screen.seqs, screen.times, strict=True) if at > out]
        if late:
            who = f"{screen.seat.user} was put out and was shown {late[:5]}"
            yield Violation("I11", "wrong", f"{truth.conversation_id}: {who}")


def marks_are_bounded(room: Room, truth: Truth) -> Iterator[Violation]:
    """I13: read ≤ delivered ≤ head, and never beyond what a device of the member had on its screen."""
    shown: defaultdict[str, int] = defaultdict(int)
    for screen in room.screens:
        shown[screen.seat.user] = max(shown[screen.seat.user], screen.after, *screen.seqs[-1:])
    for mark in truth.marks:
        if not mark.read_seq <= mark.delivered_seq <= min(truth.head, shown.get(mark.user_id, 0)):
            text = f"{mark.user_id}: read {mark.read_seq}, delivered {mark.delivered_seq}, shown {shown[mark.user_id]}"
            yield Violation("I13", "wrong", f"{truth.conversation_id} {text}, head {truth.head}")


def statuses_are_final(room: Room, truth: Truth) -> Iterator[Violation]:
    """I8: at the end nothing is pending, and what a recipient's device has acknowledged is delivered."""
    for row in truth.rows:
        others = [mark for mark in truth.marks if mark.user_id != row.sender_id]
        least = 1
        if any(mark.delivered_seq >= row.seq for mark in others):
            least = 2
        if any(mark.read_seq >= row.seq for mark in others):
            least = 3
        if row.status != least:
            text = f"status {row.status}, by its receipts {least}"
            yield Violation("I8", "wrong", f"{truth.conversation_id} seq {row.seq} message {row.message_id}: {text}")


RULES: tuple[Rule, ...] = (
    accepted_is_stored,
    one_key_one_message,
    stored_was_sent,
    refusals_are_right,
    seqs_are_dense,
    screens_are_whole,
    frames_say_what_was_sent,
    members_only,
    marks_are_bounded,
    statuses_are_final,
)


def _said(answer: Try) -> str:
    return f"{answer.status} {answer.code}".strip()
