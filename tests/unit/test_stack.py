"""The pure parts of running servers."""

from __future__ import annotations

import os
import socket

import pytest

from cli.durations import seconds
from cli.replay_irc import _speed
from stack import ports
from stack.errors import OperatorError, StackError
from stack.servers.data_dir import DataDir
from stack.servers.java import java_major
from stack.servers.kafka import Kafka
from stack.supervisor import FIRST_BACKOFF_S, MOST_BACKOFF_S, STEADY_S, backoff


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_the_version_of_java_is_read(text, major):
    assert java_major(text) == major


def test_ports_stay_what_they_were_while_they_are_free():
    first = ports.allot(["a", "b"], {}, {})
    assert ports.allot(["a", "b"], first, {}) == first
    assert all(ports.LOWEST <= port <= ports.HIGHEST for port in first.values())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["a"]))
        taken.listen()
        assert ports.allot(["a"], first, {})["a"] != first["a"]
        with pytest.raises(StackError, match=f"port {first['a']} for a is taken"):
            ports.allot(["a"], {}, {"a": first["a"]})


def test_restarts_slow_down_and_a_steady_life_forgives():
    waits, wait = [], FIRST_BACKOFF_S / 2
    for _ in range(8):
        wait = backoff(wait, 0.0)
        waits.append(wait)
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert waits[-1] == MOST_BACKOFF_S
    assert backoff(MOST_BACKOFF_S, STEADY_S) == FIRST_BACKOFF_S


def test_a_folder_is_held_by_one(tmp_path):
    folder = DataDir(tmp_path / "data")
    folder.prepare()
    assert folder.holder() is None
    with folder.locked():
        assert folder.holder() == os.getpid()
        with pytest.raises(StackError, match=f"process {os.getpid()}"), folder.locked():
            pass
    assert folder.holder() is None


def test_secrets_are_made_once_and_private(tmp_path):
    folder = DataDir(tmp_path)
    folder.prepare()
    secret = folder.secret("jwt")
    assert secret == folder.secret("jwt") != folder.secret("other")
    assert len(secret) >= 32
    assert (tmp_path / "secrets" / "jwt").stat().st_mode & 0o777 == 0o600


def test_a_half_written_state_is_no_state(tmp_path):
    (tmp_path / "state.json").write_text('{"pid": ')
    assert DataDir(tmp_path).read("state.json") == {}


def test_the_broker_makes_no_topics_by_itself(tmp_path):
    text = Kafka(DataDir(tmp_path), 1, 2).properties(tmp_path)
    assert "auto.create.topics.enable=false" in text
    assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in text


def test_durations_are_read():
    assert (seconds("90s"), seconds("2h"), seconds("7d")) == (90, 7200, 604_800)
    for text in ("", "h", "0m", "-1h", "1w", "1.5h"):
        with pytest.raises(ValueError, match="not a duration"):
            seconds(text)


def test_a_speed_is_a_number_or_max():
    assert _speed("max") is None
    assert _speed("60") == 60.0
    for text in ("0", "-1", "fast", "nan"):
        with pytest.raises(OperatorError):
            _speed(text)
