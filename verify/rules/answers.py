"""Rules about answers and rows: what was accepted is stored, once, as it was sent, in the right order (I1 to I5).

An outcome that a client cannot know is neither success nor failure: such a message may be stored or not, but at most
once, and as it was sent. A plain 503 is a failure: nothing is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from verify.final_state import FinalState, digest
from verify.history import Attempt, Room
from verify.rules.violation import Violation
from verify.workload import SendMode

_MAY_FOLLOW_OTHER_CONTENT = ("", "idempotency_mismatch", "unavailable", "rate_limited")


def accepted_is_stored(room: Room, state: FinalState) -> Iterator[Violation]:
    """I1: each 2xx has its row: same id, same seq, same content, under its key."""
    rows = {row.message_id: row for row in state.rows}
    for sending in room.sendings:
        for answer in (attempt for attempt in sending.attempts if attempt.ok):
            row = rows.get(answer.message_id)
            what = f"{state.conversation_id} message {answer.message_id} seq {answer.seq}"
            if row is None:
                yield Violation("I1", "lost", f"{what} was accepted and is not stored")
            elif (row.seq, row.sender_id) != (answer.seq, sending.send.sender):
                yield Violation("I1", "wrong", f"{what} is stored as seq {row.seq} of another place or sender")
            elif row.digest != digest(sending.send.content):
                yield Violation("I12", "wrong", f"{what} is stored with other content")


def one_key_one_message(room: Room, state: FinalState) -> Iterator[Violation]:
    """I2: all answers for one key agree, and there is at most one row for it."""
    for sending in room.sendings:
        ids = {attempt.message_id for attempt in sending.attempts if attempt.ok}
        if len(ids) > 1:
            yield Violation("I2", "doubled", f"key {sending.send.key} was answered with {len(ids)} messages: {ids}")
    for (sender, key), count in Counter((row.sender_id, row.key) for row in state.rows).items():
        if key is not None and count > 1:
            yield Violation("I2", "doubled", f"{sender} key {key} is stored {count} times")


def stored_was_sent(room: Room, state: FinalState) -> Iterator[Violation]:
    """I3: each row was attempted by its sender, as it is. I4: what was refused, or surely failed, is not there."""
    by_key = {(sending.send.sender, sending.send.key): sending for sending in room.sendings}
    for row in state.rows:
        sending = by_key.get((row.sender_id, row.key or ""))
        what = f"{state.conversation_id} seq {row.seq} message {row.message_id}"
        if sending is None:
            yield Violation("I3", "doubled", f"{what} was never sent like this")
        elif row.digest != digest(sending.send.content):
            yield Violation("I4", "wrong", f"{what} holds a content that was refused or never sent")
        elif sending.send.mode is SendMode.STRANGER:
            yield Violation("I4", "wrong", f"{what} is by somebody who is no member")
        elif sending.failed:
            yield Violation("I4", "wrong", f"{what} is stored, though each answer was that surely nothing is")
        elif not sending.accepted and not sending.unknown:
            yield Violation("I4", "wrong", f"{what} was refused and is stored")


def failures_are_true(room: Room, state: FinalState) -> Iterator[Violation]:
    """I4: a message is not answered as stored before where each earlier answer was that surely nothing is stored."""
    for sending in room.sendings:
        for answer in (attempt for attempt in sending.attempts if attempt.replayed):
            others = [t for t in sending.attempts if t is not answer and t.began < answer.ended]
            if all(t.failed for t in others):
                text = f"seq {answer.seq} is answered as stored before, though each answer was that surely nothing is"
                yield Violation("I4", "wrong", f"{state.conversation_id} key {sending.send.key}: {text}")


def refusals_are_right(room: Room, state: FinalState) -> Iterator[Violation]:
    """I4: strangers are answered 404, other content under a used key 422, nobody else is refused, and nothing is a
    bug of the server."""
    for sending in room.sendings:
        mode, key = sending.send.mode, sending.send.key
        for answer in sending.mismatched:
            if answer.ok or answer.code not in _MAY_FOLLOW_OTHER_CONTENT:
                yield Violation("I4", "wrong", f"key {key} with other content was answered {_text(answer)}")
        for answer in sending.attempts:
            if answer.code == "internal":
                yield Violation("I4", "wrong", f"key {key} was answered {_text(answer)}")
            if mode is SendMode.STRANGER and (answer.ok or (answer.refused and answer.code != "not_found")):
                yield Violation("I4", "wrong", f"key {key} of a stranger was answered {_text(answer)}")
            if mode is not SendMode.STRANGER and answer.refused:
                yield Violation("I4", "wrong", f"key {key} of a member was answered {_text(answer)}")


def seqs_are_dense(room: Room, state: FinalState) -> Iterator[Violation]:
    """I5: the change log is 1 to n without holes, and what was answered before another was sent comes before it."""
    seqs = [entry.seq for entry in state.entries]
    if seqs != list(range(1, state.head + 1)):
        yield Violation("I5", "lost", f"{state.conversation_id}: the change log is not 1..{state.head}")
    accepted = [(sending, first) for sending in room.sendings if (first := sending.accepted) is not None]
    answered = sorted((first.ended, first.seq) for _, first in accepted)
    begun = sorted((sending.attempts[0].began, first.seq, sending.send.key) for sending, first in accepted)
    highest, done = 0, 0
    for began, seq, key in begun:
        while done < len(answered) and answered[done][0] < began:
            highest = max(highest, answered[done][1])
            done += 1
        if seq < highest:
            text = f"key {key} has seq {seq}, though {highest} was answered before it was sent"
            yield Violation("I5", "reordered", f"{state.conversation_id} {text}")


def _text(answer: Attempt) -> str:
    return f"{answer.status} {answer.code}".strip()
