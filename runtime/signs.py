"""Rules of what is told of typing and presence: how often, over all nodes. Pure."""

from __future__ import annotations

TYPING_S = 3.0
"""Typing is told at most once in this time, for each user and conversation."""
PRESENCE_S = 5.0
"""At most one change of a user's presence is told in this time."""


def told(online: bool, now_ms: int) -> str:
    """What is kept of a change that was told."""
    return f"{int(online)} {now_ms}"


def wait_s(last: str, online: bool, now_ms: int) -> float:
    """Seconds until this may be told after ``last`` was (empty: nothing was); negative when that said the same."""
    if not last:
        return 0.0
    was, _, at = last.partition(" ")
    return -1.0 if was == str(int(online)) else max(0.0, PRESENCE_S - (now_ms - int(at)) / 1000)
