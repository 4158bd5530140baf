"""The checker judged from outside: what `millrace replay-irc` can see. Every way to break the promise turns it red."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest

from schemas import frames
from schemas.messages import Change, ChangeKind
from tests import make
from verify.checker import FROM_OUTSIDE, deliveries, judge_room, state_of_answers
from verify.final_state import digest
from verify.history import Attempt, Room, Screen, Sending
from verify.replay.quantiles import Quantiles
from verify.rules.records import CreatedRecord, records_are_the_rows
from verify.workload import DeviceKind, DeviceSpec, Send, SendMode

HEAD = 5
ADDED = 3  # the seq of a membership change
MESSAGES = (1, 2, 4, 5)


def message(seq: int, **changes: str) -> bytes:
    fields = {"message_id": f"m{seq}", "sender_id": "alice", "content": f"text {seq}", **changes}
    return frames.new_message(make.message(seq=seq, **fields))


def membership(seq: int) -> bytes:
    data = {"userId": "dave", "by": "alice", "at": make.AT}
    change = Change(conversation_id=make.ROOM, seq=seq, kind=ChangeKind.MEMBER_ADDED, data=data)
    return frames.of_change(change)


def conversation(seqs: list[int], *, after: int = 0, until: int | None = None) -> Room:
    """A room of alice's messages, and bob's screen."""
    room = Room(conversation_id=make.ROOM)
    for seq in MESSAGES:
        send = Send(at=0.0, sender="alice", key=f"k{seq}", content=f"text {seq}", mode=SendMode.PLAIN)
        room.sendings.append(Sending(send, [Attempt(seq, seq + 0.5, 201, f"m{seq}", seq)]))
    room.frames.by_seq = {seq: membership(seq) if seq == ADDED else message(seq) for seq in range(1, HEAD + 1)}
    spec = DeviceSpec(user="bob", device="-", kind=DeviceKind.STEADY)
    room.screens.append(Screen(spec, after, until, array("q", seqs), has_left=until is not None))
    return room


def found(room: Room) -> Counter[str]:
    """How many frames are lost, doubled, reordered, wrong."""
    counts: Counter[str] = Counter()
    for violation in judge_room(room, state_of_answers(room, HEAD), FROM_OUTSIDE):
        counts[violation.sort] += violation.count
    return counts


def test_everything_once_and_in_order_is_kept():
    room = conversation([1, 2, 3, 4, 5])
    assert found(room) == {}
    assert deliveries(room, state_of_answers(room, HEAD)) == (5, 5)


@pytest.mark.parametrize(("seqs", "lost"), [([1, 2, 4, 5], 1), ([1, 2, 3, 4], 1), ([2, 4, 5], 2), ([], 5)])
def test_a_lost_frame_is_red(seqs: list[int], lost: int):
    room = conversation(seqs)
    assert found(room) == {"lost": lost}
    assert deliveries(room, state_of_answers(room, HEAD)) == (5, 5 - lost)


def test_a_doubled_frame_is_red():
    assert found(conversation([1, 2, 2, 3, 4, 5])) == {"doubled": 1}


def test_two_swapped_frames_are_red():
    assert found(conversation([1, 3, 2, 4, 5])) == {"reordered": 1}


def test_a_frame_that_came_too_early_on_the_wire_is_red():
    room = conversation([1, 2, 3, 4, 5])
    room.screens[0].gaps = 2
    assert found(room) == {"reordered": 2}


def test_a_stay_begins_and_ends_where_it_does():
    assert found(conversation([3, 4], after=2, until=4)) == {}
    assert found(conversation([3, 4, 5], after=2, until=4)) == {"wrong": 1}  # after the removal: to a non-member
    assert found(conversation([2, 3, 4], after=2, until=4)) == {"wrong": 1}
    assert found(conversation([3], after=2, until=4)) == {"lost": 1}


@pytest.mark.parametrize(
    "wrong",
    [message(2, content="other text"), message(2, sender_id="mallory"), message(2, message_id="other"), membership(2)],
)
def test_a_frame_that_is_not_what_was_accepted_is_red(wrong: bytes):
    room = conversation([1, 2, 3, 4, 5])
    room.frames.by_seq[2] = wrong
    assert found(room) == {"wrong": 1}


def test_a_message_that_nobody_sent_is_red():
    room = conversation([1, 2, 3, 4, 5])
    room.frames.by_seq[ADDED] = message(ADDED)
    assert found(room) == {"wrong": 1}


def test_screens_that_are_shown_different_frames_are_red():
    room = conversation([1, 2, 3, 4, 5])
    assert room.frames.same(2, message(2, status="read"))  # a status may have moved on
    assert not room.frames.same(2, message(2, content="other"))
    assert found(room) == {"wrong": 1}


def test_an_answer_that_overtakes_is_red():
    room = conversation([1, 2, 3, 4, 5])
    first, second = room.sendings[:2]
    first.attempts, second.attempts = [Attempt(2, 2.5, 201, "m1", 1)], [Attempt(1, 1.5, 201, "m2", 2)]
    assert found(room) == {"reordered": 1}


def records(*seqs: int, partition: int = 3) -> list[CreatedRecord]:
    return [CreatedRecord(partition, seq, digest(f"text {seq}")) for seq in seqs]


@pytest.mark.parametrize(
    ("lying", "invariants"),
    [
        (records(1, 2, 4, 5), []),
        (records(1, 2, 1, 2, 4, 5), []),  # a repeat, which readers drop
        (records(1, 2, 5), ["I6"]),
        (records(1, 4, 2, 5), ["I6"]),
        ([*records(1, 2, 4), *records(5, partition=4)], ["I6"]),
        ([*records(1, 2, 4), CreatedRecord(3, 5, digest("else"))], ["I12"]),
    ],
)
def test_records_are_the_rows_in_their_order(lying: list[CreatedRecord], invariants: list[str]):
    state = state_of_answers(conversation([]), HEAD)
    assert [violation.invariant for violation in records_are_the_rows(lying, state)] == invariants


def test_quantiles_are_right_to_a_hundredth():
    quantiles = Quantiles()
    quantiles.add(n / 1000 for n in range(1, 1001))
    assert quantiles.at(0.5) == pytest.approx(0.5, rel=0.02)
    assert quantiles.at(0.99) == pytest.approx(0.99, rel=0.02)
    assert quantiles.at(1.0) == quantiles.most == 1.0
    assert Quantiles().at(0.5) == 0
