"""Rules about statuses and watermarks (I8, I13)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from verify.final_state import FinalState
from verify.history import Room
from verify.rules.violation import Violation

_PENDING, _SENT, _DELIVERED, _READ = range(4)


def nothing_is_pending(room: Room, state: FinalState) -> Iterator[Violation]:
    """I8: at the end nothing is pending."""
    for row in state.rows:
        if row.status == _PENDING:
            where = f"{state.conversation_id} seq {row.seq} message {row.message_id}"
            yield Violation("I8", "wrong", f"{where} is still pending")


def statuses_follow_receipts(room: Room, state: FinalState) -> Iterator[Violation]:
    """I8: what a recipient's device has acknowledged is delivered, what a recipient has read is read, and no more."""
    for row in state.rows:
        others = [mark for mark in state.watermarks if mark.user_id != row.sender_id]
        due = _SENT
        if any(mark.delivered_seq >= row.seq for mark in others):
            due = _DELIVERED
        if any(mark.read_seq >= row.seq for mark in others):
            due = _READ
        if row.status not in (_PENDING, due):
            text = f"status {row.status}, by its receipts {due}"
            yield Violation("I8", "wrong", f"{state.conversation_id} seq {row.seq} message {row.message_id}: {text}")


def who_answers_has_read(room: Room, state: FinalState) -> Iterator[Violation]:
    """I13: a member's read watermark covers what others said before the member's last message."""
    read = {mark.user_id: mark.read_seq for mark in state.watermarks}
    before: dict[str, int] = {}
    for row in sorted(state.rows, key=lambda row: row.seq):
        others = max((seq for user, seq in before.items() if user != row.sender_id), default=0)
        if read.get(row.sender_id, 0) < others:
            text = f"{row.sender_id} wrote seq {row.seq}, and has read {read.get(row.sender_id, 0)} of {others}"
            yield Violation("I13", "wrong", f"{state.conversation_id} {text}")
        before[row.sender_id] = row.seq


def watermarks_are_bounded(room: Room, state: FinalState) -> Iterator[Violation]:
    """I13: read ≤ delivered ≤ head, and never beyond what the member wrote, reported over HTTP, or had on the screen of
    a device."""
    shown: defaultdict[str, int] = defaultdict(int)
    for screen in room.screens:
        shown[screen.spec.user] = max(shown[screen.spec.user], screen.after, *screen.seqs[-1:])
    for receipt in room.receipts:
        shown[receipt.call.user] = max(shown[receipt.call.user], receipt.read_seq)
    for row in state.rows:
        shown[row.sender_id] = max(shown[row.sender_id], row.seq)
    for mark in state.watermarks:
        if not mark.read_seq <= mark.delivered_seq <= min(state.head, shown.get(mark.user_id, 0)):
            text = f"{mark.user_id}: read {mark.read_seq}, delivered {mark.delivered_seq}, shown {shown[mark.user_id]}"
            yield Violation("I13", "wrong", f"{state.conversation_id} {text}, head {state.head}")


def receipts_are_stored(room: Room, state: FinalState) -> Iterator[Violation]:
    """I13: the watermarks of a device cover what it has reported, also on connections that died, and nothing else."""
    members = {mark.user_id: mark for mark in state.watermarks}
    devices = {(mark.user_id, mark.device): mark for mark in state.devices or ()}
    for screen in room.screens:
        user, told = screen.spec.user, screen.told
        if user == room.workload.leaver or told is None:
            continue
        where = f"{state.conversation_id} the {screen.spec.device} of {user}"
        stored = members.get(user) if state.devices is None else devices.get((user, screen.spec.device))
        delivered, read = (0, 0) if stored is None else (stored.delivered_seq, stored.read_seq)
        if delivered < told.delivered_seq or read < told.read_seq:
            text = f"has reported {told.delivered_seq}/{told.read_seq}, stored is {delivered}/{read}"
            yield Violation("I13", "wrong", f"{where} {text}")
        furthest = max(receipt.delivered_seq for receipt in screen.receipts)
        if state.devices is not None and delivered > furthest:
            yield Violation("I13", "wrong", f"{where} has reported {furthest} at most, stored is {delivered}")
