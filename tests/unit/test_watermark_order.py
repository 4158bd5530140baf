"""No watermark goes back on the sockets of a node, and the memory for that is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import Envelope, Kind
from gateway.watermark_order import KEPT_MAX, KEPT_S, WatermarkOrder


def status(seq: int, about: str = "room/bob") -> Envelope:
    return Envelope(Kind.STATUS, seq, about, b"{}")


def test_an_older_watermark_is_dropped_and_a_repeated_one_is_not():
    order = WatermarkOrder()
    assert [order.passes("alice", status(seq), 0.0) for seq in (3, 5, 4, 5, 6)] == [True, True, False, True, True]


def test_users_and_members_have_an_order_each():
    order = WatermarkOrder()
    assert order.passes("alice", status(5), 0.0)
    assert order.passes("carol", status(3), 0.0)
    assert order.passes("alice", status(1, "room/dave"), 0.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20), st.sampled_from("ab")), max_size=80))
def test_within_its_time_what_passes_never_falls(steps: list[tuple[float, int, str]]):
    order, now, sent = WatermarkOrder(), 0.0, dict[str, tuple[float, int]]()
    for pause, seq, user in steps:
        now += pause
        if order.passes(user, status(seq), now):
            at, last = sent.get(user, (now, 0))
            assert seq >= last or now - at > KEPT_S
            sent[user] = now, seq


def test_a_late_one_is_dropped_for_half_a_minute_and_nothing_is_kept_for_ever():
    order = WatermarkOrder()
    order.passes("alice", status(9), 0.0)
    assert not order.passes("alice", status(1), KEPT_S)
    order = WatermarkOrder()
    order.passes("alice", status(9), 0.0)
    assert order.passes("alice", status(1), 3 * KEPT_S)


def test_many_members_take_bounded_memory():
    order = WatermarkOrder()
    for number in range(5 * KEPT_MAX):
        assert order.passes("alice", status(1, f"room/{number}"), 0.0)
    assert len(order._young) + len(order._old) <= 2 * KEPT_MAX
