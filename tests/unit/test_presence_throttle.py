"""Throttle of presence: how often changes of a user are published."""

from __future__ import annotations

import pytest

from domain.presence import PRESENCE_S, published_change, wait_s

NOW = 1_000_000


@pytest.mark.parametrize(
    ("last", "online", "wait"),
    [
        ("", True, 0),
        ("", False, 0),
        (published_change(True, NOW), True, -1),
        (published_change(False, NOW - 60_000), False, -1),
        (published_change(True, NOW), False, PRESENCE_S),
        (published_change(True, NOW - 2000), False, PRESENCE_S - 2),
        (published_change(True, NOW - 60_000), False, 0),
        (published_change(False, NOW - 60_000), True, 0),
    ],
)
def test_a_change_waits_for_its_turn_and_what_is_no_change_is_not_told(last: str, online: bool, wait: float):
    assert wait_s(last, online, NOW) == wait
