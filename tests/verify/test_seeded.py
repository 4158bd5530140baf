"""The checker checks itself: each bug that is put into the product on purpose turns it red."""

from __future__ import annotations

import pytest

from tests.seeded.registry import BUGS
from tests.verify.test_late import LATE
from tests.verify.trials import but_slow, trial

SORTS = {
    "drop-a-frame": "reordered",
    "swap-two-frames": "reordered",
    "forget-the-key": "doubled",
    "answer-without-storing": "lost",
    "put-a-member-out": "lost",
    "hide-the-beginning": "lost",
    "announce-notifications-twice": "doubled",
}
EVIDENCE = {
    "commit-and-say-unavailable": "though each answer was that surely nothing is",
    "leave-messages-out": "leaves out",
    "count-one-unread-more": "unread",
    "show-one-message-less": "messages are counted",
    "publish-nothing": "messages of the probe have never got there",
    "set-aside-in-search": "aside that no fault wrote: too round",
    "end-by-itself": "media ended with code 70, and no fault explains it",
    "serve-the-original-to-all": "holds the metadata of the picture",
    "tell-no-status": "is shown as 1",
    "let-watermarks-fall-on-the-wire": " went from (",
    "announce-notifications-twice": "came twice",
    "notify-nobody": "which reached no device",
    "notify-who-is-there": "which a device had acknowledged",
    "notify-of-everything-in-large-conversations": "open notifications",
    "remove-late": "was removed, and was sent",
    "hide-the-beginning": "and not after 0",
    "forget-the-receipts-of-a-device": "has reported",
    "forget-hints-that-wait": "and not of the last message",
}
"""Words of the evidence that must be among what is found."""
LONGER = {
    "publish-nothing": ("--messages", "300", "--rate", "20"),
    "keep-the-removed": ("--messages", "600", "--rate", "20"),
    "remove-late": ("--messages", "600", "--rate", "20"),
}
"""Loads that go on after what the bug does, also on a slow machine."""
LOAD = ("--messages", "600", "--rate", "60")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", sorted(BUGS.keys() - LATE.keys()))
def test_a_seeded_bug_turns_the_verdict_red(bug: str):
    ended = trial(*LONGER.get(bug, LOAD), "--faults", "none", bug=bug, wait=380)
    assert (ended.code, bool(but_slow(ended.report))) == (1, True), ended.log
    assert ended.report[SORTS.get(bug, "wrong")] or bug not in SORTS
    assert any(EVIDENCE.get(bug, "") in violation["text"] for violation in ended.report["violations"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_a_bug_the_verdict_is_green():
    ended = trial(*LOAD, "--faults", "none", wait=380)
    assert but_slow(ended.report) == []
