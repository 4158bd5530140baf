"""The report of a trial: when messages were late, for programs and for an operator."""

from __future__ import annotations

import json

import pytest

from verify.edges import Edge, Measurement, Recovery
from verify.history import History, InjectedFault
from verify.report import report, show
from verify.rules.violation import Violation
from verify.slowdown import BEARABLE, Slowdown

KILL = InjectedFault(
    "kill-status",
    100.0,
    100.0,
    True,
    targets=("status",),
    evidence="status, process 7, ended",
    recoveries={Edge.DELIVERED: Recovery(0.2, 1.2, 1.2), Edge.STATUS: Recovery(0.1, 4.1, 4.1, 0.0, ("cut-kafka",))},
)
PAUSE = InjectedFault(
    "pause-kafka",
    112.5,
    147.5,
    True,
    targets=("kafka",),
    evidence="kafka, process 8, stood still",
    recoveries={
        Edge.DELIVERED: Recovery(0.0, 38.1, 3.1),
        Edge.NOTIFIED: Recovery(1.0, 20.0, 0.0),
        Edge.MEDIA: Recovery(1.0, 90.0, 55.0, 40.0, (), is_over=False),
    },
)
QUIET = InjectedFault("kill-search", 120.0, 120.0, True, targets=("search",), evidence="search, process 9, ended")
MISSING = InjectedFault("full-disk", 125.0, 125.0, False, impossible="it is no small disk of its own")


def history(**changes: object) -> History:
    made = History("v", 7, faults=[KILL, PAUSE, QUIET, MISSING], quiet_s=1.23, observed_until=200.0)
    made.measurements[Edge.DELIVERED] += [Measurement(n / 10, n / 10 + 0.05) for n in range(100)]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_program_finds_each_fault_with_its_recoveries_and_each_edge_with_its_times():
    values = report(history(), [], 61.44)
    assert json.loads(json.dumps(values)) == values
    assert values["kept"] is True
    assert values["faults"][0] == {
        "fault": "kill-status",
        "atS": 0.0,
        "lastedS": 0.0,
        "recoveryS": 4.1,
        "recoveries": {
            "delivered": {
                "firstS": 0.2,
                "lastS": 1.2,
                "afterEndS": 1.2,
                "overdueS": 0.0,
                "overlaps": [],
                "isOver": True,
            },
            "status": {
                "firstS": 0.1,
                "lastS": 4.1,
                "afterEndS": 4.1,
                "overdueS": 0.0,
                "overlaps": ["cut-kafka"],
                "isOver": True,
            },
        },
        "singleProcess": True,
        "tookEffect": True,
        "evidence": "status, process 7, ended",
    }
    assert values["faults"][3]["impossible"] == "it is no small disk of its own"
    assert values["edges"] == {
        "delivered": {
            "messages": 100,
            "p50S": 0.05,
            "p99S": 0.05,
            "maxS": 0.05,
            "lateAfterS": 2.5,
            "worstRecovery": {"fault": "pause-kafka", "afterEndS": 3.1},
        }
    }
    assert values["worstRecoveryS"] == 55.0
    assert (values["slowdown"], values["timesJudged"]) == (1.0, True)


def shown(capsys: pytest.CaptureFixture[str], made: History, *found: Violation) -> list[list[str]]:
    show(report(made, found, 61.44))
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_an_operator_reads_where_and_how_long_messages_were_late(capsys):
    lines = shown(capsys, history())
    assert lines[:5] == [
        ["fault", "at", "lasted", "effect", "messages were late"],
        ["kill-status", "0.0 s", "-", "status, process 7, ended", "delivered 1.2 s; status 4.1 s (beside cut-kafka)"],
        [
            "pause-kafka",
            "12.5 s",
            "35.0 s",
            "kafka, process 8, stood still",
            "delivered until 3.1 s after its end; notified from 1.0 to 20.0 s; media for ever",
        ],
        ["kill-search", "20.0 s", "-", "search, process 9, ended", "nowhere"],
        ["full-disk", "25.0 s", "-", "could not be made: it is no small disk of its own", ""],
    ]
    assert ["delivered", "100", "0.05 s", "0.05 s", "0.05 s", "3.1 s, pause-kafka"] in lines
    assert ["the promise was kept"] in lines


def test_a_machine_that_is_too_busy_is_named(capsys):
    lines = shown(capsys, history(slowdown=Slowdown(BEARABLE + 1, 9.0)))
    text = f"everything takes {BEARABLE + 1:.1f} times as long as on an idle one: too busy to judge times"
    assert [f"machine            {text}"] in lines


def test_evidence_is_shown_in_part(capsys):
    lines = shown(capsys, history(), *(Violation("I1", "lost", f"message {n}\x1b") for n in range(25)))
    assert ["  I1     message 19\\u001b"] in lines
    assert ["  … and 5 more"] in lines
    assert ["the promise was BROKEN"] in lines


def test_a_run_without_faults_and_measurements_has_no_tables(capsys):
    assert shown(capsys, History("v", 7))[0] == ["faults             0 of 0 took effect"]
