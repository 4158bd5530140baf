"""A stack without some of its processes, which are started by hand in their places."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stack.child import end_with_parent
from stack.processes import family
from stack.running import running_stack
from tests.folders import open_folder

from .conftest import ROOT, errors, millrace, person_of, status, until


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until the block ends, and its output."""
    us = os.getpid()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: end_with_parent(us),
    )
    try:
        yield process
    finally:
        # As Ctrl-C in a terminal: a shell's children get it too. The processes of `up` have sessions of their own.
        for pid in family(process.pid) if command[0] == "sh" else [process.pid]:
            os.kill(pid, signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of a stack without ingest and one stage, and the commands that it prints for these."""
    with open_folder("left-out") as data:
        command = [sys.executable, "-m", "cli.main", "up", "--without", "ingest", "--without", "status"]
        with started(*command, "--with-parent", "--data", str(data)) as process:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith("try next"):
                    break
            at = lines.index("left out; to start one by hand:")
            yield data, dict(zip(("ingest", "status"), lines[at + 1 : at + 3], strict=True))


def state_of(data: Path, name: str) -> Any:
    return next(p["state"] for p in status(running_stack(data))["processes"] if p["name"] == name)


@pytest.mark.slow
def test_a_process_that_is_left_out_is_shown_and_takes_its_place_when_started_by_hand(
    up: tuple[Path, dict[str, str]],
):
    data, commands = up
    assert status(running_stack(data))["state"] == "ready"
    assert (state_of(data, "ingest"), state_of(data, "status"), state_of(data, "search")) == (
        "left out",
        "left out",
        "ready",
    )
    assert "left out" in millrace("status", "--data", str(data)).stdout
    with started("sh", "-c", commands["ingest"]):
        until(lambda: state_of(data, "ingest") == "started by hand")
        alice = person_of(running_stack(data), "alice")
        room = alice.create()
        alice.send(room)

        def message() -> Any:
            [one] = alice.http.get(f"/conversations/{room}/messages").json()["messages"]
            return one["status"]

        assert message() == "pending"
        with started("sh", "-c", commands["status"]):
            until(lambda: message() == "sent")
            assert state_of(data, "status") == "started by hand"
    until(lambda: state_of(data, "ingest") == "left out")


@pytest.mark.slow
def test_only_a_process_that_was_left_out_has_a_place_to_take(up: tuple[Path, dict[str, str]]):
    data, _ = up
    for name, reason in (("gateway", "gateway runs in this stack"), ("moon", "moon is not a process in this stack")):
        done = millrace("env", name, "--data", str(data))
        [line] = errors(done)
        assert (done.returncode, done.stdout) == (1, "")
        assert line.startswith(f"millrace: {reason}; left out are: ingest, status.")


@pytest.mark.slow
def test_the_variables_are_printed_for_shells_editors_and_programs(up: tuple[Path, dict[str, str]]):
    data, _ = up
    ports = json.loads((data / "ports.json").read_text())
    variables = json.loads(millrace("env", "ingest", "--json", "--data", str(data)).stdout)
    assert variables["MILLRACE_NODE"] == "ingest-1"
    assert variables["MILLRACE_HTTP__PORT"] == str(ports["http"])
    assert variables["MILLRACE_OPS__PORT"] == str(ports["ingest-ops"])
    script = f'eval "$("{sys.executable}" -m cli.main env ingest --data "{data}")"; env'
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    shell = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, cwd=ROOT, env=clean, check=True
    ).stdout
    by_shell = dict(line.split("=", 1) for line in shell.splitlines() if line.startswith("MILLRACE_"))
    assert {name: value for name, value in variables.items() if name.startswith("MILLRACE_")} == by_shell
    lines = millrace("env", "ingest", "--dotenv", "--data", str(data)).stdout.splitlines()
    assert dict(line.split("=", 1) for line in lines)["MILLRACE_PG__DSN"] == f'"{variables["MILLRACE_PG__DSN"]}"'


def test_a_name_that_no_process_has_is_refused_before_anything_starts(tmp_path: Path):
    done = millrace("up", "--without", "moon", "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "moon is not a process of the stack; there are ingest, gateway, status," in done.stderr
    assert not (tmp_path / "data").exists()
