"""The verdict: a promise that nothing put to the test was not kept, and each fault says what it did."""

from __future__ import annotations

import pytest

from verify.history import History, InjectedFault
from verify.report import EXIT_CODES, report, show
from verify.rules.violation import Violation

DONE = InjectedFault("kill-status", 1.0, 1.0, True, evidence="status, process 7, ended")
IDLE = InjectedFault("cut-answer-postgres", 1.0, 6.0, False)
ABSENT = InjectedFault("full-postgres", 1.0, 1.0, False, impossible="only root may mount a small disk")
LOST = Violation("I1", "lost", "message 1 was accepted and is not stored")


@pytest.mark.parametrize(
    ("faults", "found", "verdict", "code"),
    [
        ([], [], "kept", 0),
        ([], [LOST], "broken", 1),
        ([DONE, IDLE, ABSENT], [], "kept", 0),
        ([DONE], [LOST], "broken", 1),
        ([IDLE], [], "not put to the test", 2),
        ([ABSENT], [], "not put to the test", 2),
        ([IDLE, ABSENT], [LOST], "broken", 1),
    ],
)
def test_a_verdict_counts_faults_that_took_effect_only(faults, found, verdict, code):
    made = report(History("v", 1, faults=faults), found, 60.0)
    assert (made["verdict"], made["kept"]) == (verdict, verdict == "kept")
    assert EXIT_CODES[made["verdict"]] == code
    assert (made["faultsPlanned"], made["faultsTookEffect"]) == (len(faults), faults.count(DONE))


def test_a_fault_that_was_impossible_has_no_effect_whatever_it_saw():
    assert not InjectedFault("poison-x", 1.0, 2.0, False, impossible="no broker", evidence="30 records").took_effect


def test_each_fault_is_printed_with_its_effect(capsys: pytest.CaptureFixture[str]):
    made = report(History("v", 1, faults=[DONE, IDLE, ABSENT]), [], 60.0)
    show({**made, "leftOut": {"libfaketime is not installed": ["clock"]}})
    printed = capsys.readouterr().out
    assert "status, process 7, ended" in printed
    assert "none that is known" in printed
    assert "could not be made: only root may mount a small disk" in printed
    assert "1 of 3 took effect" in printed
    assert "not drawn: clock: libfaketime is not installed" in printed
    assert [each["tookEffect"] for each in made["faults"]] == [True, False, False]
