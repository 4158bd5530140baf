"""The pid file that a killed PostgreSQL leaves: removed only when nothing of that cluster lives."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.processes import working_in
from stack.servers.stale_processes import remove_stale_pid_file


@pytest.fixture
def zombie() -> Iterator[int]:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    yield process.pid
    process.wait()


@pytest.fixture
def survivor(tmp_path: Path) -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    yield process.pid
    process.kill()
    process.wait()


def pid_file(folder: Path, pid: int) -> Path:
    file = folder / "postmaster.pid"
    file.write_text(f"{pid}\n{folder}\n")
    return file


async def test_a_zombie_keeps_nothing_from_starting(tmp_path: Path, zombie: int):
    file = pid_file(tmp_path, zombie)
    await remove_stale_pid_file(tmp_path)
    assert not file.exists()


async def test_a_stranger_with_the_same_number_neither(tmp_path: Path):
    file = pid_file(tmp_path, os.getpid())
    await remove_stale_pid_file(tmp_path)
    assert not file.exists()


async def test_a_survivor_of_the_cluster_is_waited_for_and_then_named(tmp_path: Path, zombie: int, survivor: int):
    file = pid_file(tmp_path, zombie)
    assert working_in(tmp_path) == {survivor}
    with pytest.raises(StackError, match=f"still work in .*: {survivor}; end them"):
        await remove_stale_pid_file(tmp_path, wait_s=0.1)
    assert file.exists()


async def test_a_file_of_nobody_is_left_to_the_server(tmp_path: Path):
    process = subprocess.Popen(["true"])  # noqa: ASYNC220 - it ends at once
    process.wait()
    file = pid_file(tmp_path, process.pid)
    await remove_stale_pid_file(tmp_path)
    assert file.exists()
