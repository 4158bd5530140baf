"""Starting and ending a stack: nothing is left behind, errors say what to do, data stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from schemas.topics import stages
from stack.processes import family
from stack.running import RunningStack, running_stack
from tests.folders import open_folder

from .conftest import ROOT, millrace, until


@contextmanager
def servers(data: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`millrace up --servers-only`, ready; whatever the test does to it, it has ended afterwards."""
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "up",
        "--servers-only",
        "--json",
        "--with-parent",
        "--data",
        str(data),
        *more,
    ]
    with (data.parent / "up.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env={**os.environ, **environment}
        )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "ready"
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def data() -> Iterator[Path]:
    with open_folder("up") as folder:
        made = folder / "data"
        made.mkdir()
        yield made


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(data: Path) -> list[int]:
    return [p["pid"] for p in json.loads((data / "state.json").read_text()).get("processes", [])]


def test_no_process_has_the_login_of_the_owner(stack: RunningStack):
    """All that is connected is ours, but for the session that looks."""
    sessions = "SELECT usename FROM pg_stat_activity WHERE datname = 'millrace' AND pid <> pg_backend_pid()"

    def logins() -> set[str]:
        with psycopg.connect(stack.pg_dsn) as conn:
            return {name for (name,) in conn.execute(sessions)}

    until(lambda: logins() == {"ingest", "gateway", "audit", *stages()})
    with psycopg.connect(stack.pg_dsn) as conn:
        powerful = conn.execute(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin"
            " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)"
        ).fetchall()
    assert powerful == [("millrace",)]
    secrets = [urlsplit(dsn).password or "" for dsn in (stack.pg_dsn, *stack.logins.values())]
    assert len(set(secrets)) == len(secrets)
    for log in stack.data.joinpath("logs").iterdir():
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log.name


def test_data_stays_and_a_second_stack_in_the_folder_is_refused(data: Path):
    with servers(data):
        dsn = running_stack(data).pg_dsn
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        refused = millrace("up", "--data", str(data))
        assert refused.returncode == 1
        assert "runs in" in refused.stderr
        assert "millrace down" in refused.stderr
        down = millrace("down", "--data", str(data))
        assert down.returncode == 0, down.stderr
    with servers(data), psycopg.connect(running_stack(data).pg_dsn) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_kill_9_of_the_supervisor_leaves_no_process_and_the_next_start_has_all_data(data: Path):
    with servers(data) as process:
        pids = family(process.pid)
        assert set(children(data)) < set(pids)  # and the server processes of PostgreSQL
        with psycopg.connect(running_stack(data).pg_dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        process.wait()
        until(lambda: not any(map(alive, pids)), 10)
    with servers(data), psycopg.connect(running_stack(data).pg_dsn) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_with_parent_everything_ends_when_the_parent_is_killed(data: Path, tmp_path: Path):
    command = f"{sys.executable} -m cli.main up --servers-only --with-parent --json --data {data}; true"
    shell = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert shell.stdout is not None
    assert json.loads(shell.stdout.readline())["state"] == "ready"
    pids = [json.loads((data / "state.json").read_text())["pid"], *children(data)]
    shell.send_signal(signal.SIGKILL)
    shell.wait()
    until(lambda: not any(map(alive, pids)), 40)


def test_ctrl_c_during_the_start_ends_everything(data: Path):
    command = [sys.executable, "-m", "cli.main", "up", "--with-parent", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        pids = until(lambda: (data / "state.json").exists() and [p for p in children(data) if p])
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not any(map(alive, pids))
    finally:
        process.kill()


def refusal(*arguments: str, **environment: str) -> str:
    """What `millrace up` says instead of starting: one clear error, no traceback."""
    done = millrace("up", "--servers-only", *arguments, env={**os.environ, **environment})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("millrace: ")]
    return line


def test_a_taken_port_is_named(data: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal("--data", str(data), "--http-port", str(port))


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MILLRACE_PG__DSN", "postgresql://u:s3cret@127.0.0.1:1/x", "no PostgreSQL answers at 127.0.0.1:1"),
        ("MILLRACE_KAFKA__BOOTSTRAP", "127.0.0.1:1", "no Kafka answers at 127.0.0.1:1"),
        ("MILLRACE_REDIS__URL", "redis://:s3cret@127.0.0.1:1/0", "no Redis answers at 127.0.0.1:1"),
        ("MILLRACE_REDIS__URL", "nonsense", "MILLRACE_REDIS__URL"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(data: Path, variable: str, value: str, words: str):
    said = refusal("--data", str(data), **{variable: value})
    assert words in said
    assert "s3cret" not in said


def test_a_missing_java_is_named_with_what_to_do(data: Path, tmp_path: Path):
    said = refusal("--data", str(data), PATH=str(tmp_path), JAVA_HOME="")
    assert "Java" in said
    assert "install" in said.lower()


def test_a_missing_maven_is_named_with_what_to_do(data: Path, tmp_path: Path):
    only_java = tmp_path / "bin"
    only_java.mkdir()
    java = subprocess.run(["sh", "-c", "command -v java"], capture_output=True, text=True, check=True).stdout.strip()
    (only_java / "java").symlink_to(java)
    said = refusal("--data", str(data), PATH=str(only_java), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "Maven" in said
    assert "install" in said.lower()


def test_a_foreign_folder_is_not_touched(data: Path):
    (data / "postgres").mkdir()
    (data / "postgres" / "thesis.txt").write_text("years of work")
    assert "postgres" in refusal("--data", str(data))
    assert (data / "postgres" / "thesis.txt").read_text() == "years of work"


def test_an_interrupted_first_start_is_made_good(data: Path):
    for half in ("postgres.new", "kafka.new"):
        (data / half).mkdir()
        (data / half / "rubbish").write_text("half-written")
    with servers(data):
        assert not (data / "kafka.new").exists()


def test_nothing_runs_is_said_plainly(tmp_path: Path):
    said = json.loads(millrace("status", "--json", "--data", str(tmp_path)).stdout)
    assert said["state"] == "stopped"
    done = millrace("demo", "--data", str(tmp_path))
    assert (done.returncode, done.stderr.startswith("millrace: nothing runs in")) == (1, True)


@pytest.mark.parametrize("command", [["token", "alice"], ["topics", "list"], ["agents", "list"], ["logs"]])
def test_commands_that_need_a_stack_say_that_none_runs(tmp_path: Path, command: list[str]):
    done = millrace(*command, "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("millrace: no")
    assert "Traceback" not in done.stderr
