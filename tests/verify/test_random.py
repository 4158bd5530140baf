"""Row 48: random faults from a seed, many short trials rather than a long one."""

from __future__ import annotations

import pytest

from tests.verify.trials import assert_bites, trial

SEEDS = [str(seed) for seed in range(1, 11)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_row_48_random_faults_break_no_promise(seed: str):
    ended = trial("--seed", seed)
    assert (ended.code, ended.report["violations"]) == (0, []), ended.log
    assert_bites(ended.report)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS[:5])
def test_row_48_random_faults_break_no_promise_of_a_cluster(seed: str):
    ended = trial("--cluster", "--messages", "4000", "--seed", seed)
    assert (ended.code, ended.report["violations"]) == (0, []), ended.log
    assert_bites(ended.report)
