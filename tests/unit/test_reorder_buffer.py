"""The reorder buffer releases every seq once, in order, in whatever order frames arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import reorder_buffer as feed_module
from gateway.reorder_buffer import REORDER_S, ReorderBuffer


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
