"""The verdict: a history that was kept is found kept, and every way to break it is found and called by its name."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.findings import Finding, Kind
from schemas import frames
from schemas.messages import Change, ChangeKind
from tests import make
from verify.checker import judge
from verify.final_state import FinalState, LogEntry, StoredMessage, Watermark, digest
from verify.history import Attempt, History, Room, Screen, Sending
from verify.rules.joins import REMOVED_S
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload, Send, SendMode, generate

COUNT = 12
ADDED = 5  # the seq of a change that is no message


class KeptConversation:
    """A conversation of alice, bob and carol, as it should be."""

    def __init__(self) -> None:
        workload = RoomWorkload(owner="alice", members=(), leaver="carol", stranger="mallory", devices=(), sends=())
        self.room, self.rows, self.entries = Room(workload, make.ROOM), [], []
        for seq in range(1, COUNT + 1):
            if seq == ADDED:
                self.entries.append(LogEntry(seq, "member_added", None))
                data = {"userId": "dave", "by": "alice", "at": make.AT}
                change = Change(conversation_id=make.ROOM, seq=seq, kind=ChangeKind.MEMBER_ADDED, data=data)
                self.room.frames.by_seq[seq] = frames.of_change(change)
                continue
            self.accept(seq)
        for user in ("alice", "bob"):
            seqs = array("q", range(1, COUNT + 1))
            times = array("d", (float(seq) for seq in seqs))
            self.room.screens.append(
                Screen(DeviceSpec(user=user, device="desk", kind=DeviceKind.STEADY), seqs=seqs, times=times)
            )
        self.room.refused = 1
        self.marks = [Watermark("alice", 3, 3), Watermark("bob", 6, 2)]
        self.settle()

    def accept(self, seq: int, mode: SendMode = SendMode.PLAIN) -> Sending:
        send = Send(at=0, sender="alice", key=f"k{seq}", content=f"n{seq}", mode=mode)
        sending = Sending(send, [Attempt(seq, seq + 0.5, 201, f"m{seq}", seq)])
        self.room.sendings.append(sending)
        self.store(seq)
        shown = make.message(seq=seq, message_id=f"m{seq}", content=f"n{seq}", status="sent")
        self.room.frames.by_seq[seq] = frames.new_message(shown)
        return sending

    def store(self, seq: int, **changes: object) -> None:
        row = StoredMessage(f"m{seq}", make.ROOM, seq, "alice", f"k{seq}", digest(f"n{seq}"), 1)
        self.rows.append(replace(row, **changes))
        self.entries.append(LogEntry(seq, "message", f"m{seq}"))

    def settle(self) -> None:
        """Statuses as the receipts of others say."""
        bob = self.marks[1]
        self.rows = [
            replace(row, status=3 if row.seq <= bob.read_seq else 2 if row.seq <= bob.delivered_seq else 1)
            for row in self.rows
        ]

    def verdict(self) -> list[tuple[str, str]]:
        state = FinalState(make.ROOM, COUNT, self.rows, self.entries, self.marks)
        history = History("v", 1, rooms=[self.room], quiet_s=1.0)
        return sorted({(v.invariant, v.sort) for v in judge(history, [state])})


def test_a_history_that_was_kept():
    assert KeptConversation().verdict() == []


def lose_a_row(h: KeptConversation) -> None:
    h.rows = [row for row in h.rows if row.seq != 7]


def store_other_content(h: KeptConversation) -> None:
    h.rows[2] = replace(h.rows[2], digest=digest("other"))


def answer_twice(h: KeptConversation) -> None:
    h.room.sendings[2].attempts.append(Attempt(3, 3.5, 201, "m-other", 3))


def store_a_key_twice(h: KeptConversation) -> None:
    h.rows.append(replace(h.rows[2], message_id="m-other"))


def store_what_nobody_sent(h: KeptConversation) -> None:
    h.rows.append(replace(h.rows[2], message_id="m-other", key="k-other"))


def store_what_was_refused(h: KeptConversation) -> None:
    h.room.sendings[2].attempts = [Attempt(3, 3.5, 422, code="invalid")]


def take_a_stranger_in(h: KeptConversation) -> None:
    send = h.room.sendings[2].send
    h.room.sendings[2] = Sending(replace(send, mode=SendMode.STRANGER), h.room.sendings[2].attempts)


def take_other_content(h: KeptConversation) -> None:
    h.room.sendings[2].mismatched.append(Attempt(4, 4.5, 200, "m3", 3))


def break_the_log(h: KeptConversation) -> None:
    h.entries.pop(ADDED - 1)


def overtake(h: KeptConversation) -> None:
    first, second = h.room.sendings[1], h.room.sendings[2]
    first.attempts, second.attempts = (
        [replace(second.attempts[0], began=2, ended=2.5)],
        [replace(first.attempts[0], began=3, ended=3.5)],
    )
    h.rows[1], h.rows[2] = (
        replace(h.rows[1], message_id="m3", seq=3, key="k2", digest=digest("n2")),
        replace(h.rows[2], message_id="m2", seq=2, key="k3", digest=digest("n3")),
    )
    for seq, content in ((2, "n3"), (3, "n2")):
        shown = make.message(seq=seq, message_id=f"m{seq}", content=content, status="sent")
        h.room.frames.by_seq[seq] = frames.new_message(shown)


def screen(h: KeptConversation) -> Screen:
    return h.room.screens[1]


def miss_one(h: KeptConversation) -> None:
    del screen(h).seqs[6], screen(h).times[6]


def miss_the_last(h: KeptConversation) -> None:
    screen(h).seqs.pop()
    screen(h).times.pop()


def show_twice(h: KeptConversation) -> None:
    screen(h).seqs.insert(6, screen(h).seqs[5])
    screen(h).times.insert(6, 0.0)


def send_too_early(h: KeptConversation) -> None:
    screen(h).gaps = 1


def show_a_message_twice(h: KeptConversation) -> None:
    message = make.message(seq=ADDED, message_id="m3", content="n3", status="sent")
    h.room.frames.by_seq[ADDED] = frames.new_message(message)


def show_other_content(h: KeptConversation) -> None:
    h.room.frames.by_seq[3] = frames.new_message(make.message(seq=3, message_id="m3", content="N3"))


def show_different_things(h: KeptConversation) -> None:
    assert not h.room.frames.same(3, frames.new_message(make.message(seq=3, message_id="m3", content="else")))


def show_a_stranger(h: KeptConversation) -> None:
    h.room.frames_to_stranger = 1


def never_refuse_the_stranger(h: KeptConversation) -> None:
    h.room.refused = 0


def show_the_removed(h: KeptConversation) -> None:
    screen(h).removed_at, screen(h).until = 1.0, 3
    screen(h).times[COUNT - 1] = 1.0 + REMOVED_S + 1


def put_a_member_out(h: KeptConversation) -> None:
    del screen(h).seqs[6:], screen(h).times[6:]
    screen(h).until = 6


def mark_beyond_the_screen(h: KeptConversation) -> None:
    h.marks[0] = Watermark("alice", COUNT + 1, 0)


def answer_without_reading(h: KeptConversation) -> None:
    last = h.room.sendings[-1]
    last.send = replace(last.send, sender="bob")  # who has read up to 2
    h.rows[-1] = replace(h.rows[-1], sender_id="bob")
    shown = make.message(seq=COUNT, message_id=f"m{COUNT}", content=f"n{COUNT}", sender_id="bob", status="sent")
    h.room.frames.by_seq[COUNT] = frames.new_message(shown)


def stay_pending(h: KeptConversation) -> None:
    h.rows[-1] = replace(h.rows[-1], status=0)


def claim_too_much(h: KeptConversation) -> None:
    h.rows[-1] = replace(h.rows[-1], status=3)


BREAKS: list[tuple[Callable[[KeptConversation], None], list[tuple[str, str]]]] = [
    (lose_a_row, [("I1", "lost"), ("I12", "wrong")]),
    (store_other_content, [("I12", "wrong"), ("I4", "wrong")]),
    (answer_twice, [("I1", "lost"), ("I2", "doubled")]),
    (store_a_key_twice, [("I2", "doubled")]),
    (store_what_nobody_sent, [("I3", "doubled")]),
    (store_what_was_refused, [("I4", "wrong")]),
    (take_a_stranger_in, [("I4", "wrong")]),
    (take_other_content, [("I4", "wrong")]),
    (break_the_log, [("I12", "wrong"), ("I5", "lost")]),
    (overtake, [("I5", "reordered")]),
    (miss_one, [("I10", "lost")]),
    (miss_the_last, [("I10", "lost")]),
    (show_twice, [("I10", "doubled")]),
    (send_too_early, [("I10", "reordered")]),
    (show_a_message_twice, [("I10", "doubled"), ("I12", "wrong")]),
    (show_other_content, [("I12", "wrong")]),
    (show_different_things, [("I12", "wrong")]),
    (show_a_stranger, [("I11", "wrong")]),
    (never_refuse_the_stranger, [("I11", "wrong")]),
    (show_the_removed, [("I11", "wrong")]),
    (put_a_member_out, [("I10", "lost")]),
    (mark_beyond_the_screen, [("I13", "wrong")]),
    (answer_without_reading, [("I13", "wrong")]),
    (stay_pending, [("I8", "wrong")]),
    (claim_too_much, [("I8", "wrong")]),
]


@pytest.mark.parametrize(("damage", "found"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_way_to_break_it_is_found(damage, found):
    history = KeptConversation()
    damage(history)
    verdict = history.verdict()
    assert set(found) <= set(verdict)
    assert {sort for _, sort in verdict} <= {sort for _, sort in found} | {"wrong"}


def test_who_was_removed_is_owed_what_it_had_until_then():
    history = KeptConversation()
    put_a_member_out(history)
    screen(history).removed_at = 6.5
    assert history.verdict() == []


def test_an_unknown_outcome_may_be_stored_or_not_but_not_otherwise():
    history = KeptConversation()
    history.room.sendings[2].attempts = [Attempt(3, 3.5, None)]
    assert history.verdict() == []
    history.room.sendings.append(
        Sending(Send(at=0, sender="alice", key="gone", content="x", mode=SendMode.FORGETFUL), [Attempt(9, 9.1, 503)])
    )
    assert history.verdict() == []
    history.rows[2] = replace(history.rows[2], digest=digest("other"))
    assert ("I4", "wrong") in history.verdict()


FAILED, UNKNOWN = Attempt(3, 3.1, 503, code="unavailable"), Attempt(3, 3.1, 503, code="unavailable", outcome="unknown")


@pytest.mark.parametrize(
    ("earlier", "found"), [([FAILED], [("I4", "wrong")]), ([FAILED, UNKNOWN], []), ([Attempt(3, 3.1, None)], [])]
)
def test_a_message_stored_by_a_request_that_surely_failed_is_found(earlier, found):
    history = KeptConversation()
    accepted = history.room.sendings[2].attempts[0]
    history.room.sendings[2].attempts = [*earlier, replace(accepted, began=3.2, ended=3.5, status=200)]
    assert history.verdict() == found


def test_what_fell_leaked_or_did_not_rest_is_told():
    missing = Finding(check="search", kind=Kind.MISSING, text="it has no search document")
    history = History("v", 1, waiting=["3 rows"], regressions=["x"], leaks=["a log"], audit=[missing])
    assert [v.invariant for v in judge(history, [])] == ["I8/I13", "audit", "I16", "I14"]


def test_a_script_is_the_same_for_the_same_seed_and_another_for_another():
    assert generate(7, 200, 50, run="v") == generate(7, 200, 50, run="v") != generate(8, 200, 50, run="v")
    rooms = generate(7, 400, 50, run="v")
    assert {send.mode for room in rooms for send in room.sends} == set(SendMode)
    assert {spec.kind for room in rooms for spec in room.devices} == set(DeviceKind)
    assert all(send.sender != room.leaver for room in rooms for send in room.sends)
