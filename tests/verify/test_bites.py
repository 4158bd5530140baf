"""A trial with faults, as a user starts it: they take effect, and the promise is kept all the same."""

from __future__ import annotations

import shutil

import pytest

from tests.verify.trials import assert_bites, trial


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_options_random_faults_take_effect_and_the_promise_is_kept():
    ended = trial(wait=590)
    assert (ended.code, ended.report["verdict"]) == (0, "kept"), (ended.report["violations"], ended.report["data"])
    assert_bites(ended.report)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fault_that_cannot_be_made_puts_nothing_to_the_test():
    ended = trial("--messages", "100", "--faults", "reload-haproxy")
    assert (ended.code, ended.report["verdict"]) == (2, "not put to the test"), ended.log
    assert ended.report["violations"] == []
    [fault] = ended.report["faults"]
    assert "no process haproxy" in fault["impossible"]
    shutil.rmtree(ended.report["data"])
