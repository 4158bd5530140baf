"""Patience follows what a process does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from stack.standstill import MOST_CPU_S, Activity, Standstill, activity


class Watched:
    """Processes and a clock in the hands of the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen = Activity(0.0, False)

    def clock(self) -> float:
        return self.now

    def look(self, _: Iterable[int]) -> Activity:
        return self.seen

    def standstill(self, limit_s: float) -> Standstill:
        return Standstill(limit_s, clock=self.clock, look=self.look)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def pass_time(watched: Watched, standstill: Standstill, seconds: int, *, cpu: float, wants: bool = False) -> str | None:
    """Let so many seconds pass with this use of a processor; return the first reason to give up."""
    for _ in range(seconds):
        watched.now += 1
        watched.seen = Activity(watched.seen.cpu_s + cpu, wants)
        if reason := standstill.reason([1]):
            return reason
    return None


def test_who_waits_for_a_processor_is_waited_for(watched: Watched):
    assert pass_time(watched, watched.standstill(60), 3_600, cpu=0.01, wants=True) is None


def test_who_works_is_waited_for(watched: Watched):
    assert pass_time(watched, watched.standstill(60), 240, cpu=0.5) is None


def test_who_only_looks_from_time_to_time_is_given_up(watched: Watched):
    standstill = watched.standstill(60)
    assert pass_time(watched, standstill, 60, cpu=0.02) is None
    assert pass_time(watched, standstill, 2, cpu=0.02) == "has stood still for 60 s"


def test_who_runs_in_circles_is_given_up(watched: Watched):
    reason = pass_time(watched, watched.standstill(60), 3_600, cpu=1.0, wants=True)
    assert reason == f"has used {MOST_CPU_S:.0f} s of processor time"


def test_time_in_which_nobody_looked_is_not_judged(watched: Watched):
    standstill = watched.standstill(60)
    watched.now += 3_600
    assert standstill.reason([1]) is None
    assert standstill.still_s < 5


def test_work_takes_back_what_was_stood_still(watched: Watched):
    standstill = watched.standstill(60)
    for _ in range(20):
        assert pass_time(watched, standstill, 40, cpu=0.0) is None
        assert pass_time(watched, standstill, 40, cpu=0.0, wants=True) is None


@pytest.fixture
def child() -> Iterator[Callable[[str], int]]:
    """Start a shell script; return its process id."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> int:
        started.append(subprocess.Popen(["sh", "-c", script], start_new_session=True))
        return started[-1].pid

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def seen(pid: int, condition: Callable[[Activity], bool]) -> bool:
    """Tell whether it is seen like this within 20 s."""
    deadline = time.monotonic() + 20
    while not condition(activity([pid])):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_process_that_works_is_seen_to_and_so_is_its_child(child: Callable[[str], int]):
    pid = child("sh -c 'while :; do :; done'; :")
    assert seen(pid, lambda activity: activity.wants and activity.cpu_s > 0.1)


def test_a_process_that_sleeps_is_seen_to(child: Callable[[str], int]):
    pid = child("sleep 60; :")
    assert seen(pid, lambda activity: not activity.wants)
    before = activity([pid]).cpu_s
    time.sleep(0.3)
    assert activity([pid]).cpu_s - before < 0.05


def test_a_process_that_is_gone_has_done_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert activity([process.pid]) == Activity(0.0, False)


def test_a_process_that_ends_while_it_is_looked_at_does_nothing(monkeypatch: pytest.MonkeyPatch):
    def gone(path: object = ".") -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", gone)
    monkeypatch.setattr(os, "scandir", gone)
    assert activity([os.getpid()]) == Activity(0.0, False)
