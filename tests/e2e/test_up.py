"""``millrace up`` as a user runs it: real servers and real deaths, and trouble said in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

MILLRACE = [sys.executable, "-m", "ops.cli"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that any user can reach, as PostgreSQL needs it when the tests run as root."""
    path = Path(tempfile.mkdtemp(prefix="millrace-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def up(data: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the servers in the folder; returns once they are ready."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [*MILLRACE, "up", "--servers-only", "--json", "--with-parent", "--data", str(data)]
        with (data / "up.log").open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (data / "up.log").read_text()
        assert json.loads(line)["state"] == "ready"
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def millrace(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")} | (env or {})
    return subprocess.run(
        [*MILLRACE, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says."""
    assert done.returncode == 1, done
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("millrace: ")
    return line


def status(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(millrace("status", "--json", "--data", str(data)).stdout)
    return found


def until(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """The processes below this one, down to the last."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def connect(data: Path) -> psycopg.Connection[Any]:
    dsn = json.loads((data / "state.json").read_text())["servers"]["pg"]
    return psycopg.connect(dsn, autocommit=True)


def pids(data: Path) -> dict[str, int]:
    return {p["name"]: p["pid"] for p in status(data)["processes"] if p["state"] == "ready"}


def test_servers_that_die_come_back_and_a_killed_supervisor_leaves_nothing_but_the_data(
    data: Path, up: Callable[[], subprocess.Popen[str]]
):
    process = up()
    with connect(data) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    before = pids(data)
    assert before.keys() == {"postgres", "kafka", "valkey"}
    ports = (data / "ports.json").read_text()
    assert f"(process {process.pid})" in complaint(millrace("up", "--data", str(data)))

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: pids(data).keys() == before.keys() and status(data)["state"] == "ready", "all servers are back")
    assert not set(before.values()) & set(pids(data).values())

    family = descendants(process.pid)
    assert len(family) > 3
    process.kill()
    until(lambda: not any(map(is_alive, family)), "nothing is left")
    assert status(data)["state"] == "stopped"

    again = up()
    assert (data / "ports.json").read_text() == ports
    with connect(data) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(42,)]
    family = descendants(again.pid)
    assert millrace("down", "--data", str(data)).returncode == 0
    assert again.wait(30) == 0
    assert not any(map(is_alive, family))


def test_a_missing_java_is_named(data: Path, tmp_path: Path):
    done = millrace("up", "--data", str(data), env={"PATH": str(tmp_path), "JAVA_HOME": ""})
    assert "Kafka needs Java 17 or later, and there is no java in the PATH" in done.stderr
    assert done.returncode == 1


def test_a_missing_maven_is_named(data: Path, tmp_path: Path):
    java = shutil.which("java")
    assert java is not None
    (tmp_path / "java").symlink_to(java)
    env = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "JAVA_HOME": ""}
    done = millrace("up", "--data", str(data), env=env)
    assert "Maven, which fetches Kafka's jars the first time, is missing" in done.stderr
    assert done.returncode == 1


def test_a_taken_port_is_named(data: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = complaint(millrace("up", "--data", str(data), "--http-port", str(port)))
    assert f"port {port} for http is taken" in line


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        ("MILLRACE_PG__DSN", "postgresql://u:hush@127.0.0.1:1/x", "no PostgreSQL answers at 127.0.0.1:1"),
        ("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1", "no Kafka answers at 127.0.0.1:1"),
        ("MILLRACE_REDIS__URL", "redis://:hush@127.0.0.1:1/0", "no Redis answers at 127.0.0.1:1"),
        ("MILLRACE_REDIS__URL", "redis://:hush@host:port/0", "not of the form redis://host:6379/0"),
    ],
)
def test_a_url_where_nothing_answers_is_named_without_its_password(data: Path, variable: str, url: str, says: str):
    line = complaint(millrace("up", "--data", str(data), env={variable: url}))
    assert variable in line
    assert says in line
    assert "hush" not in line


@pytest.mark.parametrize("command", [["token", "alice"], ["topics", "list"], ["logs"]])
def test_commands_for_a_running_stack_say_that_none_runs(data: Path, command: list[str]):
    line = complaint(millrace(*command, "--data", str(data)))
    assert "nothing runs in" in line or "no log" in line


def test_a_stack_that_does_not_run_is_stopped(data: Path):
    done = millrace("status", "--json", "--data", str(data))
    assert done.returncode == 1
    assert json.loads(done.stdout)["state"] == "stopped"
