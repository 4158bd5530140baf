"""The reorder buffer releases every seq once, in order, in whatever order frames arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import reorder_buffer as feed_module
from gateway.reorder_buffer import REMEMBER_S, REORDER_S, ReorderBuffer


def frame(seq: int) -> bytes:
    return b"%d" % seq


def test_what_arrives_in_order_goes_out_at_once():
    buffer = ReorderBuffer()
    assert buffer.start(3, 0) == []
    assert buffer.push(4, b"4", 0) == [(4, b"4")]
    assert buffer.push(5, b"5", 0) == [(5, b"5")]


def test_a_repetition_is_dropped():
    buffer = ReorderBuffer()
    buffer.start(3, 0)
    assert buffer.push(3, b"3", 0) == []
    buffer.push(4, b"4", 0)
    assert buffer.push(4, b"4", 0) == []


def test_what_came_before_the_head_was_known_is_kept():
    buffer = ReorderBuffer()
    buffer.push(5, b"5", 0)
    buffer.push(4, b"4", 0)
    assert buffer.start(3, 0) == [(4, b"4"), (5, b"5")]


def test_a_hole_may_close_by_itself():
    buffer = ReorderBuffer()
    buffer.start(0, 0)
    assert buffer.push(2, b"2", 0) == []
    assert buffer.gap(REORDER_S / 2) is None
    assert buffer.push(1, b"1", REORDER_S / 2) == [(1, b"1"), (2, b"2")]
    assert buffer.gap(100) is None


def test_a_hole_that_stays_is_named_exactly():
    buffer = ReorderBuffer()
    buffer.start(0, 0)
    buffer.push(4, b"4", 0)
    buffer.push(7, b"7", 0)
    assert buffer.gap(REORDER_S) == (0, 3)


def test_what_closes_a_hole_fits_even_when_no_more_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_module, "MAX_PENDING", 3)
    buffer = ReorderBuffer()
    buffer.start(0, 0)
    for seq in (2, 3, 4, 5, 6):
        assert buffer.push(seq, frame(seq), 0) == []
    assert buffer.gap(REORDER_S) == (0, 1)
    assert [seq for seq, _ in buffer.push(1, b"1", 1)] == [1, 2, 3, 4]
    assert buffer.gap(1 + REORDER_S) == (4, 6)
    assert [buffer.push(seq, frame(seq), 2) for seq in (5, 6)] == [[(5, b"5")], [(6, b"6")]]


def test_the_loss_of_a_last_message_shows_in_the_head():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    buffer.observe_head(6, 1)
    assert buffer.gap(1 + REORDER_S) == (4, 6)


def test_a_head_that_is_already_there_is_no_hole():
    buffer = ReorderBuffer()
    buffer.start(6, 0)
    buffer.observe_head(6, 1)
    assert buffer.gap(100) is None


def test_a_claim_beyond_the_store_is_no_gap_once_the_store_was_read():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    buffer.push(10**15, b"forged", 0)
    buffer.push(6, b"6", 0)
    assert not buffer.observe_head(6, 1, seen=buffer.head)
    assert (buffer.head, buffer.gap(1 + REORDER_S)) == (6, (4, 5))
    assert buffer.fill(5, b"5", 1) == [(5, b"5"), (6, b"6")]
    assert buffer.gap(100) is None
    assert buffer.push(7, b"7", 2) == [(7, b"7")]


def test_a_forged_frame_that_was_released_gives_its_seq_back():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    assert buffer.push(5, b"forged", 0) == [(5, b"forged")]
    assert buffer.observe_head(4, 1, seen=buffer.head)
    assert (buffer.cursor, buffer.gap(100)) == (4, None)
    assert buffer.push(5, b"5", 2) == [(5, b"5")]


def test_what_comes_while_the_head_is_read_is_not_denied():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    seen = buffer.head
    assert buffer.push(5, b"5", 0) == [(5, b"5")]
    buffer.push(7, b"7", 0)
    assert not buffer.observe_head(4, 1, seen)
    assert (buffer.cursor, buffer.gap(1 + REORDER_S)) == (5, (5, 6))


def test_of_two_frames_for_a_seq_that_waits_neither_is_believed():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    buffer.push(6, b"forged", 0)
    buffer.push(6, b"6", 0)
    assert buffer.push(5, b"5", 0) == [(5, b"5")]
    assert buffer.gap(REORDER_S) == (5, 6)
    assert buffer.fill(6, b"6", 1) == [(6, b"6")]


def test_a_second_frame_for_a_seq_that_was_released_disputes_it_for_some_time():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    buffer.push(5, b"forged", 0)
    buffer.push(5, b"forged", 0)
    assert buffer.disputed == set()
    buffer.observe_head(5, 1, seen=buffer.head)
    buffer.push(5, b"5", 1)
    assert buffer.disputed == {5}
    buffer.disputed.clear()
    buffer.observe_head(5, REMEMBER_S, seen=buffer.head)
    buffer.push(5, b"5", REMEMBER_S)
    assert buffer.disputed == set()


def test_nothing_disputes_what_the_store_gave():
    buffer = ReorderBuffer()
    buffer.start(4, 0)
    assert buffer.fill(5, b"5", 0) == [(5, b"5")]
    buffer.push(5, b"forged", 0)
    assert buffer.disputed == set()


class _Node:
    """A buffer beside a store, with the rules of ``RoomSync``. ``sent``: the last frame that was sent for each seq."""

    def __init__(self) -> None:
        self.buffer, self.head, self.now, self.sent = ReorderBuffer(), 0, 0.0, dict[int, bytes]()
        self.buffer.start(0, 0)

    def push(self, seq: int, payload: bytes) -> None:
        self.sent.update(self.buffer.push(seq, payload, self.now))
        for disputed in self.buffer.disputed & set(range(1, self.head + 1)):
            self.sent[disputed] = frame(disputed)
            self.buffer.disputed.discard(disputed)

    def read_head(self) -> None:
        self.buffer.observe_head(self.head, self.now, self.buffer.head)

    def fill(self) -> None:
        self.now += REORDER_S
        while (gap := self.buffer.gap(self.now)) is not None:
            self.read_head()
            for seq in range(gap[0] + 1, min(gap[1], self.head) + 1):
                self.sent.update(self.buffer.fill(seq, frame(seq), self.now))
            self.now += REORDER_S


STEPS = st.sampled_from(["commit", "forge", "tell", "compare", "fill"])


@given(st.lists(st.tuples(STEPS, st.integers(1, 12)), max_size=20))
def test_whatever_is_forged_the_true_entry_is_sent_in_the_end(script):
    """A forger claims seqs that the store does not have yet; each entry is told within REMEMBER_S."""
    node, untold = _Node(), list[int]()
    for step, number in script:
        match step:
            case "commit":
                node.head += 1
                untold.append(node.head)
            case "forge":
                node.push(node.head + number, b"forged")
            case "tell" if untold:
                seq = untold.pop(number % len(untold))
                node.push(seq, frame(seq))
            case "compare":
                node.read_head()
            case "fill":
                node.fill()
    for seq in untold:
        node.push(seq, frame(seq))
    node.read_head()
    node.fill()
    assert {seq: payload for seq, payload in node.sent.items() if seq <= node.head} == {
        seq: frame(seq) for seq in range(1, node.head + 1)
    }
    assert node.buffer.cursor == node.head
    assert node.buffer.gap(node.now + 100) is None


@given(
    head=st.integers(0, 3),
    total=st.integers(0, 40),
    script=st.lists(st.tuples(st.integers(1, 45), st.booleans()), max_size=150),
    late_start=st.integers(0, 20),
)
def test_whatever_is_lost_doubled_or_reordered_comes_out_whole(head, total, script, late_start):
    """Model: seqs up to ``total`` exist in the store; the script offers any of them, any number of times."""
    total = max(total, head)
    buffer, out, now = ReorderBuffer(), [], 0.0
    for step, (seq, wait) in enumerate(script):
        if step == late_start:
            out += buffer.start(head, now)
        now += REORDER_S * 2 if wait else 0.001
        if seq <= total:
            out += buffer.push(seq, frame(seq), now)
    if buffer.cursor is None:
        out += buffer.start(head, now)
    buffer.observe_head(total, now)
    now += REORDER_S * 2
    while (hole := buffer.gap(now)) is not None:
        after, up_to = hole
        assert after < up_to <= total
        for seq in range(after + 1, up_to + 1):
            out += buffer.push(seq, frame(seq), now)
        now += REORDER_S * 2
    assert out == [(seq, frame(seq)) for seq in range(head + 1, total + 1)]
