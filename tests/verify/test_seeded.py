"""The checker checks itself: each bug that is put into the product on purpose turns it red."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.e2e.conftest import millrace
from tests.seeded.bugs import BUGS

SORTS = {
    "drop-a-frame": "reordered",
    "swap-two-frames": "reordered",
    "forget-the-key": "doubled",
    "answer-without-storing": "lost",
    "put-a-member-out": "lost",
}
EVIDENCE = {
    "commit-and-say-unavailable": "though each answer was that surely nothing is",
    "leave-messages-out": "leaves out",
    "count-one-unread-more": "unread",
    "show-one-message-less": "messages are counted",
    "set-aside-in-search": "aside that no fault wrote: Refused: too round",
    "end-by-itself": "media ended with code 70, and no fault explains it",
    "serve-the-original-to-all": "holds the metadata of the picture",
}
"""Words of the evidence that must be among what is found."""
LONGER = {"keep-the-removed": ("--messages", "900", "--rate", "30")}


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_seeded_bug_turns_the_verdict_red(bug: str):
    load = LONGER.get(bug, ("--messages", "600", "--rate", "60"))
    environment = {**os.environ, "MILLRACE_EXEC_WRAPPER": "tests.seeded", "MILLRACE_BUG": bug}
    done = millrace("verify", *load, "--faults", "none", "--json", env=environment)
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["violations"]
    shutil.rmtree(said["data"])
    assert any(EVIDENCE.get(bug, "") in violation["text"] for violation in said["violations"])
    assert said[SORTS.get(bug, "wrong")] or bug not in SORTS


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_without_a_bug_the_verdict_is_green():
    done = millrace("verify", "--messages", "600", "--rate", "60", "--faults", "none", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
