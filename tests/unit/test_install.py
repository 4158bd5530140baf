"""The environment of a checkout: made, made anew, or left alone; and the errors of a failure."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime import native
from stack import install as module
from stack.install import LOCKS, install
from stack.progress import Progress, Task, silent
from stack.servers.data_dir import DataDir

INSTALLED = [
    "--require-hashes --requirement=requirements/build.txt --requirement=requirements/server.txt"
    " --requirement=requirements/dev.txt",
    "--no-deps --no-build-isolation --editable .",
]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note ``venv``, or what pip is to install, instead of running it."""
    run: list[str] = []

    def note(command: Sequence[str], failure: str, task: Task | None) -> None:
        run.append("venv" if command[2] == "venv" else " ".join(command[command.index("--progress-bar=off") + 1 :]))
        if command[2] == "venv":
            Path(command[-1]).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(module, "_run", note)
    return run


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]) -> Path:
    """Install a project; return its environment."""
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("one")
    Path("requirements").mkdir()
    for lock in LOCKS:
        lock.write_text("one")
    install(Path(".venv"), silent())
    assert commands == ["venv", *INSTALLED]
    commands.clear()
    return Path(".venv")


def test_what_is_there_is_left_alone_and_nothing_is_said(venv: Path, commands: list[str]):
    said: list[str] = []
    install(venv, Progress(said.append))
    assert (commands, said) == ([], [])


def test_other_requirements_are_installed_into_it(venv: Path, commands: list[str]):
    Path("pyproject.toml").write_text("two")
    install(venv, silent())
    assert commands == INSTALLED


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_other_locked_versions_are_installed_into_it(venv: Path, commands: list[str], lock: Path):
    lock.write_text("two")
    install(venv, silent())
    assert commands == INSTALLED


@pytest.mark.parametrize(
    ("name", "other"), [("folder", "/elsewhere/.venv"), ("python", "/elsewhere/python3.11 3.11.0")]
)
def test_a_moved_checkout_and_another_interpreter_need_a_new_one(
    venv: Path, commands: list[str], name: str, other: str
):
    stamp = venv / ".installed"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), name: other}))
    install(venv, silent())
    assert commands == ["venv", *INSTALLED]


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_an_environment_that_was_not_finished_is_made_anew(venv: Path, commands: list[str], text: str):
    (venv / ".installed").write_text(text)
    install(venv, silent())
    assert commands == ["venv", *INSTALLED]


@pytest.mark.parametrize("text", ["two", "one"])
def test_after_a_failure_the_packages_are_installed_again_into_the_same_one(
    venv: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, text: str
):
    def fail(*_: object) -> None:
        raise SystemExit("no network")

    with monkeypatch.context() as without_network:
        without_network.setattr(module, "_run", fail)
        Path("pyproject.toml").write_text("two")
        with pytest.raises(SystemExit):
            install(venv, silent())
    Path("pyproject.toml").write_text(text)
    install(venv, silent())
    assert commands == INSTALLED


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here")
def test_a_compiled_helper_is_built_once_and_again_when_its_source_has_changed(venv: Path):
    source = Path("gateway", "fan.c")
    source.parent.mkdir()
    source.write_text("int millrace_fan(void) { return 1; }\n")
    install(venv, silent())
    first = native.built(source, venv)
    assert first is not None
    made_at = first.stat().st_mtime_ns
    install(venv, silent())
    assert first.stat().st_mtime_ns == made_at
    source.write_text("int millrace_fan(void) { return 2; }\n")
    install(venv, silent())
    assert native.built(source, venv) not in (None, first)


def test_a_helper_that_does_not_compile_keeps_nobody_from_working(venv: Path, commands: list[str]):
    source = Path("gateway", "fan.c")
    source.parent.mkdir()
    source.write_text("no C")
    install(venv, silent())
    assert (native.built(source, venv), commands) == (None, [])


def test_the_environment_of_a_stack_that_runs_is_not_removed(venv: Path, commands: list[str]):
    stamp = venv / ".installed"
    stamp.write_text("{}")
    stack = DataDir(Path(".millrace"))
    stack.prepare()
    with stack.locked(), pytest.raises(SystemExit, match=rf"a stack runs in it \(process {os.getpid()}\)"):
        install(venv, silent())
    assert commands == []


def test_a_second_make_waits_for_the_first(venv: Path, commands: list[str]):
    Path("pyproject.toml").write_text("two")
    said: list[str] = []
    with Path("pyproject.toml").open() as first, Progress(said.append, quiet_s=0.05) as progress:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=install, args=(venv, progress))
        second.start()
        deadline = time.monotonic() + 20
        while not any("waiting for another make" in line for line in said) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert commands == []
        fcntl.flock(first, fcntl.LOCK_UN)
        second.join(20)
    assert "waiting for another make" in said[0]
    assert commands == INSTALLED


def test_a_command_that_fails_shows_its_last_lines_and_what_to_do():
    task = Task("pip", 0.0)
    with pytest.raises(SystemExit, match=r"(?s)is the network there\?:\n.*line 29\n  no route") as failed:
        script = "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; echo no route >&2; exit 1"
        module._run(["sh", "-c", script], "is the network there?", task)
    assert "line 3\n" not in str(failed.value)
    assert task.detail == "no route"
