"""Messages to a person who waits."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stack.progress import Progress, Task, describe

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that the test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def progress(clock: Clock, said: list[str]) -> Progress:
    return Progress(said.append, quiet_s=4.0, clock=clock)


def test_a_task_says_at_its_end_how_long_it_took(progress: Progress, clock: Clock, said: list[str]):
    with progress.task("kafka", done="ready"):
        clock.now += 3.25
    assert said == ["  3.2 s  kafka: ready in 3.2 s"]


def test_a_task_that_fails_leaves_the_word_to_the_error(progress: Progress, said: list[str]):
    with pytest.raises(ValueError, match="no"), progress.task("kafka"):
        raise ValueError("no")
    progress.look()
    assert said == []


def test_who_is_quiet_for_long_is_named_with_what_it_does(progress: Progress, clock: Clock, said: list[str]):
    with progress.task("pip", done=None) as task:
        task.detail = "Downloading\n  redis"
        clock.now += 3.9
        progress.look()
        assert said == []
        clock.now += 0.2
        progress.look()
        progress.look()  # now it was said
        assert said == ["  4.1 s  … pip (4 s, Downloading redis)"]
        clock.now += 4.1
        progress.look()
        assert len(said) == 2


def test_what_others_show_is_no_silence(progress: Progress, clock: Clock, said: list[str]):
    with progress.task("a test", done=None):
        clock.now += 3.9
        progress.printed()
        clock.now += 3.9
        progress.look()
    assert said == []


def test_nothing_is_said_when_nothing_is_under_way(progress: Progress, clock: Clock, said: list[str]):
    clock.now += 60
    progress.look()
    assert said == []


def test_those_that_began_together_share_a_place():
    tasks = [Task("ingest", 10.0), Task("gateway", 10.2), Task("kafka", 4.0, "restarts: 1")]
    assert describe(tasks, 20.3) == "ingest, gateway (10 s); kafka (16 s, restarts: 1)"


def test_a_long_detail_is_cut():
    [name, detail] = describe([Task("pip", 0.0, "x" * 5000)], 1.0).split(" (1 s, ")
    assert name == "pip"
    assert len(detail) < 110


def test_it_speaks_up_by_itself(said: list[str]):
    spoke = threading.Event()

    def write(line: str) -> None:
        said.append(line)
        spoke.set()

    with Progress(write, quiet_s=0.05) as progress, progress.task("a long one", done=None):
        assert spoke.wait(20)
    assert "a long one" in said[0]


def test_a_command_keeps_its_output_and_its_exit_code():
    command = [sys.executable, "-m", "stack.progress", "the check", "sh", "-c", "echo out; exit 3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "the check failed with code 3" in done.stderr
