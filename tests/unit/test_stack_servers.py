"""What the embedded servers are told, and which data folders they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.errors import StackError
from stack.progress import silent
from stack.servers import postgres_files as postgres_module
from stack.servers.data_dir import DataDir
from stack.servers.java import find_java, java_major, kafka_jars
from stack.servers.kafka import Kafka
from stack.servers.postgres import STOPPING_S, Postgres, SessionCheck
from stack.servers.valkey import Valkey


@pytest.fixture
def folder(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.prepare()
    return made


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_broker_listens_here_only_and_makes_no_topics_by_itself(folder: DataDir):
    told = properties(Kafka(folder, 21_000, 21_001).properties("kafka"))
    assert told["listeners"] == "PLAINTEXT://127.0.0.1:21000,CONTROLLER://127.0.0.1:21001"
    assert told["advertised.listeners"] == "PLAINTEXT://127.0.0.1:21000"
    assert told["auto.create.topics.enable"] == "false"
    assert told["log.dirs"] == "kafka"


def test_valkey_listens_here_only_behind_a_password_and_keeps_its_data(folder: DataDir):
    told = dict(line.split(" ", 1) for line in Valkey(folder, 21_002).config().splitlines())
    assert told["bind"] == "127.0.0.1"
    assert told["requirepass"] == folder.secret("redis")
    assert told["appendonly"] == "yes"


async def test_no_password_is_in_an_argument(folder: DataDir):
    child = await Valkey(folder, 21_002).prepare()
    assert child.prepare is not None
    await child.prepare()
    assert not any(folder.secret("redis") in argument for argument in child.argv)
    assert (folder.path / "valkey" / "valkey.conf").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "25.0.1" 2025-10-21 LTS', 25),
        ("no such thing", None),
    ],
)
def test_the_version_of_java(said: str, major: int | None):
    assert java_major(said) == major


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_an_old_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path / "bin" / "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=r"is Java 11, and Kafka needs 17 or later"):
        await find_java()


async def test_a_wrong_java_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=f"JAVA_HOME is {tmp_path}, where no bin/java is"):
        await find_java()


async def test_a_failed_download_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path / "bin" / "mvn", "echo 'cannot resolve'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(StackError, match="cannot resolve"):
        await kafka_jars(silent())
    assert [entry.name for entry in (tmp_path / "cache" / "millrace").iterdir()] == ["lock"]


async def test_jars_appear_whole_and_an_interrupted_download_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = 'for a; do case $a in -DoutputDirectory=*) d="${a#*=}";; esac; done'
    program(tmp_path / "bin" / "mvn", f'{folder}\necho x > "$d/kafka_2.13.jar"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "millrace" / "unfinished-old").mkdir(parents=True)
    jars = await kafka_jars(silent())
    assert (jars / "kafka_2.13.jar").exists()
    assert not (jars.parent / "unfinished-old").exists()
    program(tmp_path / "bin" / "mvn", "exit 1")
    assert await kafka_jars(silent()) == jars


@pytest.mark.parametrize(
    ("version", "complaint"), [(None, "not a PostgreSQL cluster"), ("17\n", "written by PostgreSQL 17, this is 18")]
)
async def test_a_foreign_cluster_is_refused(
    folder: DataDir, monkeypatch: pytest.MonkeyPatch, version: str | None, complaint: str
):
    monkeypatch.setattr(postgres_module, "nobody", lambda: None)
    data = folder.path / "postgres"
    data.mkdir()
    (data / ("PG_VERSION" if version else "notes.txt")).write_text(version or "mine")
    with pytest.raises(StackError, match=complaint):
        await Postgres(folder, 21_003).prepare()


async def test_a_cluster_of_another_user_is_refused(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    (folder.path / "postgres").mkdir()
    (folder.path / "postgres" / "PG_VERSION").write_text("18\n")
    monkeypatch.setattr(postgres_module, "nobody", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 4_242)
    with pytest.raises(StackError, match="made by another user"):
        await Postgres(folder, 21_003).prepare()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("notes.txt", "mine", "not Kafka storage"),
        ("meta.properties", "version=1\nnode.id=7\n", "another version or node"),
        ("meta.properties", "version=9\nnode.id=1\n", "another version or node"),
    ],
)
async def test_a_foreign_kafka_storage_is_refused(
    folder: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, complaint: str
):
    program(tmp_path / "java" / "bin" / "java", "echo 'openjdk version \"17.0.1\"' >&2")
    program(tmp_path / "bin" / "mvn", "exit 0")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder.path / "kafka").mkdir()
    (folder.path / "kafka" / name).write_text(text)
    with pytest.raises(StackError, match=complaint):
        await Kafka(folder, 21_000, 21_001).prepare()


async def test_a_user_id_without_a_name_is_refused_before_initdb_does(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    def nameless(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nameless)
    with pytest.raises(StackError, match=r"user id \d+ has no name.*MILLRACE_PG__DSN"):
        await Postgres(folder, 21_003).prepare()


async def test_root_without_a_user_nobody_is_told_what_to_do(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    def unknown(_: str) -> None:
        raise KeyError

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    with pytest.raises(StackError, match=r"there is no user nobody"):
        await Postgres(folder, 21_003).prepare()


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder as a running PostgreSQL has it."""
    (tmp_path / "PG_VERSION").write_text("18")
    return tmp_path


def note_state(cluster: Path, state: str) -> None:
    lines = ["4711", str(cluster), "1796027248", "21003", "", "127.0.0.1", "  1343795   3637281", state]
    (cluster / "postmaster.pid").write_text("\n".join(lines) + "\n")


async def test_a_server_that_waits_for_its_last_session_is_helped_to_end(cluster: Path):
    now = 0.0
    check = SessionCheck(cluster, clock=lambda: now)
    assert await check() is None  # it has not written its pid file yet
    for state in ("starting", "ready   ", "standby ", "stopping"):
        note_state(cluster, state)
        now += 3600
        assert await check() is None
    now += STOPPING_S - 0.1
    assert await check() is None
    now += 0.1
    assert await check() == "takes no new sessions and waits for the old ones to end"


async def test_a_server_without_its_data_is_not_healthy_and_is_not_made_anew(
    folder: DataDir, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(postgres_module, "nobody", lambda: None)
    data = folder.path / "postgres"
    (folder.path / "secrets" / "postgres.made").touch()
    assert await SessionCheck(data)() == f"has lost its data in {data}"
    for _ in range(2):
        with pytest.raises(StackError, match=r"is gone or empty, and with it all messages: put it back from a backup"):
            await Postgres(folder, 21_003).prepare()
        data.mkdir(exist_ok=True)
    assert list(data.iterdir()) == []
