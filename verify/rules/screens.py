"""Rules about what devices were shown: everything, once, in order, as it was accepted, and to members only (I10 to
I12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

import orjson

from verify.final_state import FinalState, StoredMessage, digest
from verify.history import Room, Screen
from verify.rules.violation import Violation


def screens_are_whole(room: Room, state: FinalState) -> Iterator[Violation]:
    """I10: on each screen every seq once, in order, from the join to the head, or to the end of the membership."""
    for screen in room.screens:
        yield from _screen(screen, state)


def _screen(screen: Screen, state: FinalState) -> Iterator[Violation]:
    where = f"{state.conversation_id} on the {screen.spec.device} ({screen.spec.kind}) of {screen.spec.user}"
    until = stay_end(screen, state)
    if screen.until is not None and not screen.has_left and screen.removed_at is None:
        yield Violation("I10", "lost", f"{where}: a member was put out after {screen.until}")
    last, seen = screen.after, set[int]()
    for seq in screen.seqs:
        if seq in seen:
            yield Violation("I10", "doubled", f"{where}: {seq} after {last}")
            continue
        seen.add(seq)
        if not screen.after < seq <= until:
            if screen.removed_at is None:  # else see nothing_comes_after_a_removal
                yield Violation("I11", "wrong", f"{where}: {seq} is outside of the stay, {screen.after + 1}..{until}")
            continue
        if seq < last:
            yield Violation("I10", "reordered", f"{where}: {seq} after {last}")
        last = max(last, seq)
    for first, count in _missing(screen.after, until, seen):
        yield Violation("I10", "lost", f"{where}: {first}..{first + count - 1} never came", count)
    if screen.gaps:
        yield Violation("I10", "reordered", f"{where}: {screen.gaps} frames came too early on the wire", screen.gaps)


def stay_end(screen: Screen, state: FinalState) -> int:
    """Return the last seq that the device is owed: the head, unless its user left or was removed."""
    if screen.until is not None and (screen.has_left or screen.removed_at is not None):
        return screen.until
    return state.head


def _missing(after: int, until: int, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of seqs that were not seen: (first, how many)."""
    missing = (seq for seq in range(after + 1, until + 1) if seq not in seen)
    for _, run in groupby(enumerate(missing), lambda pair: pair[1] - pair[0]):
        seqs = [seq for _, seq in run]
        yield seqs[0], len(seqs)


def frames_say_what_was_sent(room: Room, state: FinalState) -> Iterator[Violation]:
    """I12: what is on the screens is the change log, and in each message what was accepted; no message twice."""
    rows = {row.seq: row for row in state.rows}
    kinds = {entry.seq: entry.kind for entry in state.entries}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for seq, raw in sorted(room.frames.by_seq.items()):
        frame = orjson.loads(raw)
        if frame["type"] == "new_message":
            places[frame["message"]["messageId"]].append(seq)
        if not _agrees(frame, rows.get(seq), kinds.get(seq)):
            yield Violation("I12", "wrong", f"{state.conversation_id} seq {seq}: the frame is not what is stored")
    for message_id, seqs in places.items():
        if len(seqs) > 1:
            yield Violation("I10", "doubled", f"{state.conversation_id} message {message_id} is shown as {seqs}")
    for seq in room.frames.differing:
        yield Violation("I12", "wrong", f"{state.conversation_id} seq {seq}: screens were shown different frames")


def _agrees(frame: dict[str, object], row: StoredMessage | None, kind: str | None) -> bool:
    if frame["type"] != "new_message":
        return row is None and kind is not None and kind != "message"
    message = frame["message"]
    assert isinstance(message, dict)
    return row is not None and (row.message_id, row.sender_id, row.digest) == (
        message["messageId"],
        message["senderId"],
        digest(message["content"]),
    )


def strangers_get_nothing(room: Room, state: FinalState) -> Iterator[Violation]:
    """I11: nothing to strangers, who are refused."""
    where = state.conversation_id
    if room.frames_to_stranger:
        yield Violation("I11", "wrong", f"{where}: {room.frames_to_stranger} frames reached a stranger")
    if not room.refused:
        yield Violation("I11", "wrong", f"{where}: a stranger was never refused")
