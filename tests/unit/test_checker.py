"""The judge judged: every way to break the promise turns it red."""

from __future__ import annotations

from array import array

import pytest

from verify.replay.checker import Accepted, Seen, Shown, judge
from verify.replay.quantiles import Quantiles

ACCEPTED = {n: Accepted(f"m{n}", "alice", f"text {n}", 0.0) for n in (1, 2, 4, 5)}  # 3 is a membership change
FRAMES = {n: Shown(f"m{n}", "alice", f"text {n}") if n != 3 else None for n in range(1, 6)}


def verdict(seqs, *, after=0, until=None, frames=None):
    stay = Seen("bob", after, until, array("q", seqs))
    return judge("room", 5, ACCEPTED, FRAMES if frames is None else frames, [stay])


def test_everything_once_and_in_order_is_kept():
    found = verdict([1, 2, 3, 4, 5])
    assert found.kept
    assert (found.expected, found.delivered) == (5, 5)


@pytest.mark.parametrize("seqs", [[1, 2, 4, 5], [1, 2, 3, 4], [2, 3, 4, 5], []])
def test_a_lost_frame_is_red(seqs):
    assert verdict(seqs).lost


def test_a_doubled_frame_is_red():
    assert verdict([1, 2, 2, 3, 4, 5]).doubled == ["room bob seq 2"]


def test_two_swapped_frames_are_red():
    found = verdict([1, 3, 2, 4, 5])
    assert found.reordered
    assert not found.lost


def test_a_stay_begins_and_ends_where_it_does():
    assert verdict([3, 4], after=2, until=4).kept
    assert verdict([3, 4, 5], after=2, until=4).wrong  # after the removal: shown to a non-member
    assert verdict([2, 3, 4], after=2, until=4).wrong


@pytest.mark.parametrize(
    "wrong",
    [
        Shown("m2", "alice", "other text"),
        Shown("m2", "mallory", "text 2"),
        Shown("other", "alice", "text 2"),
        None,
    ],
)
def test_a_frame_that_is_not_what_was_accepted_is_red(wrong):
    assert verdict([1, 2, 3, 4, 5], frames={**FRAMES, 2: wrong}).wrong


def test_a_message_that_nobody_sent_is_red():
    assert verdict([1, 2, 3, 4, 5], frames={**FRAMES, 3: Shown("m3", "x", "y")}).wrong


def test_quantiles_are_right_to_a_hundredth():
    quantiles = Quantiles()
    quantiles.add(n / 1000 for n in range(1, 1001))
    assert quantiles.at(0.5) == pytest.approx(0.5, rel=0.02)
    assert quantiles.at(0.99) == pytest.approx(0.99, rel=0.02)
    assert quantiles.at(1.0) == quantiles.most == 1.0
    assert Quantiles().at(0.5) == 0
