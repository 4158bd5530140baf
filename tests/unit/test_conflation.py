"""Conflation for a slow reader: the furthest frame of each subject, and not too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import Envelope, Kind
from gateway.conflation import CONFLATED_MAX, ConflatingBuffer
from tests import make


def status(user: str, delivered: int, read: int = 0, room: str = make.ROOM) -> Envelope:
    frame = f"{user} {delivered} {read}".encode()
    return Envelope(Kind.STATUS, delivered + read, f"{room}/{user}", frame)


def test_of_each_member_the_furthest_watermark_is_held():
    held = ConflatingBuffer()
    for envelope in (status("bob", 1), status("carol", 1), status("bob", 2), status("bob", 2, 1), status("bob", 1)):
        assert held.put(envelope)
    assert held.take() == [status("carol", 1).frame, status("bob", 2, 1).frame]
    assert not held
    assert held.take() == []


def test_of_each_conversation_the_latest_hint_is_held():
    held = ConflatingBuffer()
    hints = [Envelope(Kind.MESSAGE, seq, room, f"{room}{seq}".encode()) for seq in (1, 2) for room in ("a", "b")]
    assert all(map(held.put, hints))
    assert held.take() == [b"a2", b"b2"]


def test_frames_of_a_kind_that_no_node_knew_are_held_like_all_others():
    held = ConflatingBuffer()
    assert all(held.put(Envelope("poll_closed", seq, make.ROOM, b"%d" % seq)) for seq in (3, 4))
    assert held.take() == [b"4"]


def test_too_much_is_refused():
    held = ConflatingBuffer()
    answers = [held.put(Envelope(Kind.STATUS, 1, f"c/user-{n}", b"x" * 100)) for n in range(CONFLATED_MAX // 100 + 1)]
    assert answers[0]
    assert not answers[-1]


def test_what_is_replaced_takes_no_room():
    held = ConflatingBuffer()
    assert all(held.put(Envelope(Kind.STATUS, seq, "c/bob", b"x" * 1000)) for seq in range(CONFLATED_MAX // 100))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)), max_size=50))
def test_no_order_of_arrival_hides_the_last_one(moves: list[tuple[str, int, int]]):
    held, marks = ConflatingBuffer(), dict.fromkeys("abc", (0, 0))
    chain = []
    for user, delivered, read in moves:
        read_seq = max(marks[user][1], read)
        marks[user] = max(marks[user][0], delivered, read_seq), read_seq
        chain.append((user, *marks[user]))
    for user, delivered, read in reversed(chain):
        assert held.put(status(user, delivered, read))
    assert set(held.take()) == {status(user, *marks[user]).frame for user in {user for user, *_ in chain}}
