"""A trial without a verdict ends in one line that says what happened, and leaves what can explain it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from millrace_client import LiveConnection

from domain.errors import Unavailable
from stack.errors import OperatorError
from tests import make
from verify import run as runs
from verify import testbed as stands
from verify.edges import Edge, Measurement
from verify.errors import cause, explained, raise_if_dead, reason
from verify.faults import FAULTS, Fault, Target
from verify.history import History, InjectedFault, Room, Screen
from verify.nemesis import Nemesis
from verify.planning import Faults
from verify.quiescence import Quiescence, no_lags
from verify.receivers import Device
from verify.recovery import set_recoveries
from verify.run import Run
from verify.schedule import Planned
from verify.trial import Trial
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload

SEED = 4711


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (OperatorError("refused: 403"), "refused: 403"),
        (Unavailable("PostgreSQL does not answer"), "PostgreSQL does not answer"),
        (TimeoutError(), "TimeoutError"),
        (KeyError("headSeq"), "KeyError: 'headSeq'"),
        (ExceptionGroup("a", [ExceptionGroup("b", [OperatorError("refused"), ValueError("x")])]), "refused"),
    ],
)
def test_whatever_happens_is_one_line_with_seed_and_folder(tmp_path: Path, exc, words):
    with pytest.raises(OperatorError) as raised, explained(SEED, tmp_path / "logs"):
        raise exc
    assert str(raised.value) == f"no verdict: {words}; seed {SEED}; see the logs in {tmp_path / 'logs'}"
    assert type(exc).__name__ in (tmp_path / "logs" / "verify.log").read_text()


async def test_a_task_that_died_is_told_and_one_that_ended_or_was_cancelled_is_not():
    async def end() -> None:
        pass

    async def die() -> None:
        raise KeyError("seq")

    ended, cancelled, died = (asyncio.create_task(work) for work in (end(), asyncio.Event().wait(), die()))
    cancelled.cancel()
    await asyncio.wait({ended, cancelled, died})
    raise_if_dead([ended, cancelled, None])
    with pytest.raises(OperatorError, match="a client of the trial died: KeyError: 'seq'"):
        raise_if_dead([ended, died])


class Broken(Fault):
    """A fault that fails in a way that nobody foresaw."""

    async def inject(self, _: Target) -> None:
        raise RuntimeError("no such thing")


async def test_a_fault_that_fails_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(FAULTS, "broken", Broken)
    target = Target(data=tmp_path, kafka="", pg_dsn="", redis_url="", rng=random.Random(1))
    with pytest.raises(ExceptionGroup) as raised:
        await Nemesis(target, [Planned(0.0, "broken", 0.0)], []).run()
    assert reason(raised.value) == "the fault broken could not be injected: RuntimeError: no such thing"
    assert isinstance(cause(raised.value), OperatorError)


class Patient(Fault):
    """A fault that strikes a while after its injection began."""

    async def inject(self, _: Target) -> None:
        await asyncio.sleep(0.2)
        self.evidence = "ended"


async def test_a_fault_without_a_length_is_over_when_it_has_struck(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(FAULTS, "patient", Patient)
    target = Target(data=tmp_path, kafka="", pg_dsn="", redis_url="", rng=random.Random(1))
    faults = list[InjectedFault]()
    await Nemesis(target, [Planned(0.0, "patient", 0.0)], faults).run()
    [injected] = faults
    assert 0.2 <= injected.healed - injected.began < 5.0
    late = Measurement(injected.healed + 0.5, injected.healed + 9.0)  # sent after the blow, beyond any calm after began
    injected.began -= 60.0
    injected.targets = ("postgres",)
    set_recoveries(faults, {Edge.ACCEPTED: [late]}, injected.healed + 100)
    assert injected.recoveries[Edge.ACCEPTED].after_end_s == pytest.approx(9.0)


def client() -> Device:
    workload = RoomWorkload(owner="alice", members=(), leaver="carol", stranger="mallory", devices=(), sends=())
    made = Device(
        Room(workload, make.ROOM), Screen(DeviceSpec(user="bob", device="desk", kind=DeviceKind.STEADY)), (), "t"
    )
    made.attach(LiveConnection((), "t"), 0)
    return made


def run_of(*devices: Device) -> Run:
    return Run(History("v", SEED), ["http://x"], [], str, 1.0, random.Random(1), devices=list(devices))


async def test_who_does_not_join_is_counted():
    ready, waiting = client(), client()
    ready.ready.set()
    with pytest.raises(OperatorError, match="1 of 2 devices did not join in 0 s"):
        await run_of(ready, waiting)._joined(0.01)


async def test_a_device_that_died_in_the_run_is_told(monkeypatch):
    async def die() -> None:
        raise KeyError("seq")

    async def nothing(*_: Any) -> None:
        pass

    for place, name in ((Run, "_open"), (Run, "_talk"), (Quiescence, "wait"), (runs, "read_final_states")):
        monkeypatch.setattr(place, name, nothing)
    device = client()
    device.tasks.append(asyncio.create_task(die()))
    await asyncio.wait(device.tasks)
    with pytest.raises(OperatorError, match="a client of the trial died"):
        await run_of(device).go([], None, lambda *_: (None, no_lags))


@pytest.fixture
def folders(monkeypatch, tmp_path: Path) -> Path:
    """Where stands and clocks are made; no process is started."""

    async def start(*_: Any) -> None:
        pass

    monkeypatch.setattr(stands, "_start", start)
    monkeypatch.setattr(stands, "_stand_before_doors", start)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def opened() -> Any:
    return stands.open_testbed(cluster=False, environment={}, keep=False, seed=SEED)


def held(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_stand_is_removed_only_when_nothing_went_wrong(folders: Path):
    async with opened():
        assert len(held(folders)) == 1
    assert held(folders) == []
    for exc in (ValueError, asyncio.CancelledError):
        with suppress(exc):
            async with opened() as testbed:
                raise exc
        assert testbed.data.exists()


async def test_a_stand_that_does_not_start_says_where_its_logs_are(monkeypatch, folders: Path):
    async def start(*_: Any) -> None:
        raise OperatorError("the stack did not start")

    monkeypatch.setattr(stands, "_start", start)
    with pytest.raises(OperatorError, match=f"the stack did not start; seed {SEED}; see the logs in {folders}"):
        async with opened():
            pass


@pytest.mark.parametrize("exc", [Unavailable("Kafka does not answer"), TimeoutError()])
async def test_a_trial_says_what_ended_it_and_keeps_its_folder(monkeypatch, folders: Path, exc):
    async def judged(*_: Any) -> None:
        raise exc

    monkeypatch.setattr(Trial, "_judged", judged)
    trial = Trial(messages=20, seed=SEED, quiet=True, faults=Faults([Planned(0.0, "clock-gateway", 1.0)]))
    with pytest.raises(OperatorError) as raised:
        await trial.run()
    [kept] = held(folders)
    assert str(raised.value) == f"no verdict: {reason(exc)}; seed {SEED}; see the logs in {kept / 'logs'}"


async def test_a_trial_of_a_stack_elsewhere_says_what_ended_it(monkeypatch):
    async def go(*_: Any) -> None:
        raise Unavailable("http://x does not answer")

    monkeypatch.setattr(Run, "go", go)
    with pytest.raises(OperatorError, match=f"http://x does not answer; seed {SEED}$"):
        await Trial(messages=20, seed=SEED, quiet=True).run_against("http://x", "ws://x", "secret")


def test_told_to_end_it_ends_as_by_ctrl_c():
    program = """
import asyncio, signal
from verify.errors import run_to_end

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell

async def work():
    try:
        print("there", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleared", flush=True)

try:
    run_to_end(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert (process.returncode, said.split()) == (0, ["cleared", "interrupted"])
