"""Faults: their registry, their schedule, and those that need no server."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.processes import family, lives
from stack.running import STATE
from stack.servers.data_dir import DataDir
from verify.fake_clock import environment, library, set_clock
from verify.faults import FAULTS, NotPossible, Target, fault, schedule
from verify.faults.process import send

TIME = "import time; print(int(time.time()), int(time.monotonic()))"


def target(tmp_path: Path, **processes: int | None) -> Target:
    entries = [{"name": n, "kind": "x", "pid": pid, "port": 1, "opsPort": None} for n, pid in processes.items()]
    DataDir(tmp_path).write(STATE, {"processes": entries})
    return Target(data=tmp_path, kafka="", pg_dsn="", redis_url="", rng=random.Random(1))


@contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv)
    try:
        yield process
    finally:
        send(family(process.pid), signal.SIGKILL)
        process.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_each_fault_is_known_by_its_name():
    assert all(fault(name).name == name for name in FAULTS)
    assert all(set(fault(name).targets) for name in FAULTS)
    assert {"kill-postgres", "hole-kafka", "wipe-kafka", "kill-leader", "flush-redis", "clock-gateway"} <= FAULTS.keys()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), seconds=st.integers(60, 900))
def test_a_schedule_never_breaks_what_has_not_recovered(seed: int, seconds: int):
    plan = schedule(seed, None, seconds)
    assert plan == schedule(seed, None, seconds)
    assert plan == sorted(plan)
    down_until: dict[str, float] = {}
    for at, name, lasts in plan:
        each = fault(name)
        for role in each.targets:
            assert down_until.get(role, 0) <= at
            down_until[role] = at + lasts + each.recover_s
    assert max(down_until.values(), default=0) <= seconds
    assert plan or seconds < 100


def test_named_faults_come_once_each_or_are_said_not_to_fit():
    names = ["kill-status", "kill-gateway", "kill-ingest"]
    assert sorted(planned.fault for planned in schedule(7, names, 90)) == sorted(names)
    with pytest.raises(ValueError, match="does not fit"):
        schedule(7, ["pause-kafka", "kill-kafka", "wipe-kafka"], 120)
    with pytest.raises(KeyError):
        schedule(7, ["earthquake"], 60)


async def test_a_process_is_stopped_with_its_children_and_goes_on(tmp_path: Path):
    with running("sh", "-c", "sleep 60 & sleep 60") as parent:
        await until(lambda: len(family(parent.pid)) == 3)
        pids = family(parent.pid)
        pause, around = fault("pause-status"), target(tmp_path, status=parent.pid)
        await pause.inject(around)
        await until(lambda: all(state_of(pid) == "T" for pid in pids))
        await pause.heal(around)
        await until(lambda: all(state_of(pid) == "S" for pid in pids))
        await fault("kill-status").inject(around)
        await until(lambda: not any(map(lives, pids)))


async def test_one_of_a_role_is_told_to_end(tmp_path: Path):
    with running("sleep", "60") as one, running("sleep", "60") as two:
        await fault("end-gateway").inject(target(tmp_path, **{"gateway-1": one.pid, "gateway-2": two.pid}))
        await until(lambda: -signal.SIGTERM in (one.poll(), two.poll()))
        assert None in (one.poll(), two.poll())


@pytest.mark.parametrize("name", ["kill-status", "hole-postgres", "clock-gateway", "kill-leader", "wipe-kafka"])
async def test_what_is_not_there_cannot_be_broken(tmp_path: Path, name: str):
    around, broken = target(tmp_path, status=None), fault(name)
    with pytest.raises(NotPossible):
        await broken.inject(around)
    await broken.heal(around)


async def test_no_disk_is_filled_that_was_not_made_for_it(tmp_path: Path):
    (tmp_path / "pg_wal").mkdir()
    with running(sys.executable, "-c", "import time; time.sleep(60)", "-D", str(tmp_path)) as server:
        await until(lambda: b"-D" in Path(f"/proc/{server.pid}/cmdline").read_bytes())
        with pytest.raises(NotPossible, match="no small disk"):
            await fault("full-disk").inject(target(tmp_path, postgres=server.pid))


@pytest.mark.skipif(library() is None, reason="libfaketime is not installed (apt-get install faketime)")
def test_a_clock_steps_and_durations_do_not(tmp_path: Path):
    shim = library()
    assert shim is not None
    set_clock(tmp_path, "gateway-1", -600)
    env = {**os.environ, **environment(tmp_path / "gateway-1", shim)}
    here = subprocess.run([sys.executable, "-c", TIME], capture_output=True, text=True, check=True)
    there = subprocess.run([sys.executable, "-c", TIME], capture_output=True, text=True, check=True, env=env)
    (now, steady), (then, steady_too) = (map(int, said.stdout.split()) for said in (here, there))
    assert -605 < then - now <= -595
    assert 0 <= steady_too - steady < 5
