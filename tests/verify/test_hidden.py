"""Bugs that only a fault brings to light: each is found under its fault, whatever the seed, and silent without it."""

from __future__ import annotations

import pytest

from tests.seeded.hidden import HIDDEN
from tests.verify.trials import but_slow, trial

LOAD = ("--messages", "450", "--rate", "15")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("bug", sorted(HIDDEN))
def test_a_hidden_bug_is_found_under_its_fault(bug: str, seed: str):
    _, faults = HIDDEN[bug]
    ended = trial(*LOAD, "--faults", faults, "--seed", seed, bug=bug)
    assert (ended.code, bool(but_slow(ended.report))) == (1, True), ended.log


@pytest.mark.parametrize("bug", sorted(HIDDEN))
def test_a_hidden_bug_is_silent_without_its_fault(bug: str):
    ended = trial("--messages", "600", "--rate", "60", "--faults", "none", bug=bug)
    assert but_slow(ended.report) == []


@pytest.mark.parametrize("faults", sorted({faults for _, faults in HIDDEN.values()}))
def test_a_build_without_the_bug_stands_the_fault(faults: str):
    ended = trial(*LOAD, "--faults", faults)
    assert ended.report["faultsTookEffect"] == 1
    assert but_slow(ended.report) == []
