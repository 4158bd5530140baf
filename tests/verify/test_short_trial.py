"""A short trial with faults, to its verdict."""

from __future__ import annotations

import pytest

from tests.verify.trials import trial


@pytest.mark.timeout(180)
def test_row_48_two_kills_break_no_promise():
    ended = trial("--messages", "200", "--faults", "kill-gateway,kill-search")
    assert (ended.code, ended.report["violations"]) == (0, []), ended.log
    assert {fault["fault"] for fault in ended.report["faults"] if fault["tookEffect"]} == {
        "kill-gateway",
        "kill-search",
    }
