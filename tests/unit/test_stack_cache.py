"""The place of Kafka's jars: the user's cache, or the environment of a user who has none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.progress import Progress, silent
from stack.servers import java
from stack.servers.java import caches, kafka_jars, writable_cache


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment that runs us."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "venv"


def test_the_users_cache_comes_first(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caches() == [tmp_path / "home" / ".cache" / "millrace", prefix / "cache" / "millrace"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert caches()[0] == tmp_path / "cache" / "millrace"
    assert writable_cache() == caches()[0]


def test_a_relative_cache_is_ignored_as_xdg_says(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert caches()[0] == tmp_path / "home" / ".cache" / "millrace"


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nowhere"])
def test_a_home_that_cannot_be_written_is_passed_over(prefix: Path, monkeypatch: pytest.MonkeyPatch, home: str):
    monkeypatch.setenv("HOME", home)
    assert writable_cache() == prefix / "cache" / "millrace"


def test_a_user_without_a_home_has_a_cache(prefix: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert writable_cache() == prefix / "cache" / "millrace"
    assert java._repository(Path("/made")) == ["-Dmaven.repo.local=/made/repository"]


def test_no_cache_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "prefix", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(StackError, match=r"/dev/null/millrace and .* cannot be written.*set XDG_CACHE_HOME"):
        writable_cache()


def test_maven_keeps_its_repository_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Entry:
        pw_dir = str(tmp_path)

    monkeypatch.setattr("pwd.getpwuid", lambda _: Entry)
    assert java._repository(tmp_path / "made") == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert java._repository(tmp_path / "made") == [f"-Dmaven.repo.local={tmp_path / 'made' / 'repository'}"]


async def test_the_home_of_somebody_else_is_passed_over(prefix: Path, monkeypatch: pytest.MonkeyPatch):
    def forbidden(self: Path) -> bool:
        if self.is_relative_to("/root"):
            raise PermissionError(13, "Permission denied")
        return True

    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr(Path, "exists", forbidden)
    assert (await kafka_jars(silent())).parent == prefix / "cache" / "millrace"


async def test_maven_is_never_silent(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Name the last file that was fetched while Maven fetches the next."""
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    lines = "\n".join(
        f"echo '{word} from central: https://host/org/apache/{name}.jar{more}'"
        for word, name, more in [("Downloading", "a-1", ""), ("Downloaded", "a-1", " (2 kB at 1 MB/s)")]
    )
    maven.write_text(f"#!/bin/sh\n{lines}\nexec sleep 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", "/dev/null")
    said: list[str] = []
    with Progress(said.append, quiet_s=0.1) as progress:
        await kafka_jars(progress)
    assert any("by Maven" in line and "1 files, a-1.jar" in line for line in said), said
    assert "after" in said[-1]
