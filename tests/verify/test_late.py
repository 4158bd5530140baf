"""Bugs that only the time tells of: everything arrives, and too late. They need a machine that does nothing else."""

from __future__ import annotations

import pytest

from tests.verify.trials import trial

LATE = {
    "publish-no-message": ("--messages", "300", "--rate", "20", "--faults", "none"),
    "stall-after-a-restart": ("--messages", "700", "--rate", "10", "--faults", "kill-status"),
}
"""Name of the bug → the trial in which it must be found."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", LATE)
def test_a_bug_that_makes_messages_late_turns_the_verdict_red(bug: str):
    ended = trial(*LATE[bug], bug=bug, wait=380)
    if not ended.report["timesJudged"]:
        pytest.skip("the machine is too busy to judge times")
    assert (ended.code, bool(ended.report["violations"])) == (1, True), ended.log
    assert ended.report["slow"]
