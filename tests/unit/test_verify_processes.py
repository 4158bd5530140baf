"""What processes do on their own: how it is read, and what is judged."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stack.running import STATE
from stack.servers.data_dir import DataDir
from verify.foreign_records import ForeignRecord
from verify.history import History, InjectedFault
from verify.observations import DeadLetter, ProcessEnd, Processes, Traceback
from verify.processes import ends_of, find_tracebacks
from verify.rules.explanations import ENDS_S
from verify.rules.processes import ends_are_explained, errors_are_handled, letters_are_planned

AT = 1000.0


def judged(*ends: ProcessEnd, faults: tuple[InjectedFault, ...] = ()) -> int:
    history = History("v", 1, faults=list(faults), processes=Processes(ends=list(ends)))
    return len(list(ends_are_explained(history, [])))


def fault(*roles: str, began: float = AT, impossible: str = "") -> InjectedFault:
    return InjectedFault("x", began, began, single=True, targets=roles, impossible=impossible)


def test_an_end_that_no_fault_made_is_found():
    assert judged(ProcessEnd("media", AT, 70)) == 1
    assert judged(ProcessEnd("media", AT, 70), faults=(fault("gateway"),)) == 1
    assert judged(ProcessEnd("media", AT, 70), faults=(fault("message.created"),)) == 1
    assert judged(ProcessEnd("media", AT, -9), faults=(fault("media", impossible="not here"),)) == 1
    assert judged(ProcessEnd("media", AT, -9), faults=(fault("media", began=AT + 5),)) == 1
    assert judged(ProcessEnd("media", AT + ENDS_S + 5, -9), faults=(fault("media"),)) == 1


def test_a_fault_of_its_role_or_of_a_server_explains_an_end():
    assert judged(ProcessEnd("media-2", AT, -9), faults=(fault("media"),)) == 0
    assert judged(ProcessEnd("media", AT + 45, 75), faults=(fault("kafka-3"),)) == 0
    assert judged(ProcessEnd("media", AT, -11), faults=(fault("kafka"),)) == 1
    assert judged(ProcessEnd("postgres", AT, 1), faults=(fault("kafka"),)) == 1


def test_only_foreign_records_are_set_aside():
    planned = ForeignRecord(kind="null", topic="message.created", key=b"k", value=None)
    letters = [
        DeadLetter("search", "message.created", "Malformed", b"k", b""),
        DeadLetter("search", "message.created", "DataError", b"k", b"v"),
        DeadLetter("search", "message.created", "DataError", b"k", b"w"),
    ]
    history = History("v", 1, foreign=[planned], processes=Processes(letters=letters))
    [found] = letters_are_planned(history, [])
    assert found.count == 2
    assert "v" not in found.text.split()


def test_an_error_that_nobody_handled_is_told_by_its_place():
    history = History("v", 1, processes=Processes(tracebacks=[Traceback("media.log", "2026-01-01", "Traceback")]))
    assert [v.text for v in errors_are_handled(history, [])] == ["media.log at 2026-01-01: Traceback"]


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        '{"event": "Task exception was never retrieved", "logger": "asyncio", "at": "2026-01-01T00:00:02Z"}',
        '{"event": "request_failed", "reason": "KeyError"}',
        "Unhandled exception in event loop",
    ],
)
def test_logs_are_searched_for_errors_and_nothing_of_them_is_repeated(tmp_path: Path, line: str):
    (tmp_path / "gateway.log").write_text('{"event": "ready", "at": "2026-01-01T00:00:02Z"}\n' + line + "\nsecret\n")
    (tmp_path / "media.log").write_text('{"event": "record_failed"}\n')
    [found] = find_tracebacks(tmp_path)
    assert (found.log, found.at) == ("gateway.log", "2026-01-01T00:00:02Z")
    assert found.mark in line


def test_ends_are_read_by_the_clock_of_the_run(tmp_path: Path):
    DataDir(tmp_path).write(STATE, {"ends": [{"name": "media", "code": 70, "at": datetime.now(UTC).isoformat()}]})
    [end] = ends_of(tmp_path)
    assert (end.name, end.code) == ("media", 70)
    assert abs(end.at - time.monotonic()) < 5
