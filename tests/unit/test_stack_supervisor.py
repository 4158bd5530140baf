"""The supervisor, with shell scripts for servers."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stack import standstill
from stack import supervisor as module
from stack.child import Child, run_to_end
from stack.errors import OperatorError, StackError
from stack.log_files import rotate
from stack.ports import allot
from stack.probes import replies
from stack.progress import Progress
from stack.silence import Silence
from stack.supervisor import MOST_BACKOFF_S, STEADY_S, Supervisor, backoff

ENV = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    yield made
    made.kill()
    await made.stop()


def script(
    tmp_path: Path, text: str, *, name: str = "it", kind: str = "server", ready_s: float = 20, stop_s: float = 20
) -> Child:
    """A child that is ready once it has made the file named ready."""

    async def ready() -> bool:
        return (tmp_path / f"{name}.ready").exists()

    argv, log = ["/bin/sh", "-c", text.replace("READY", f"touch {tmp_path}/{name}.ready")], tmp_path / f"{name}.log"
    return Child(name=name, kind=kind, argv=argv, log=log, ready=ready, env=ENV, ready_s=ready_s, stop_s=stop_s)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_restarts_come_later_and_later_until_a_steady_life():
    waits, wait = [], 0.1
    for _ in range(8):
        wait = backoff(wait, lived_s=0.5)
        waits.append(wait)
    assert waits[0] == 0.2
    assert waits == sorted(waits)
    assert waits[-1] == MOST_BACKOFF_S
    assert backoff(MOST_BACKOFF_S, lived_s=STEADY_S) == 0.2


@pytest.mark.usefixtures("impatient")
async def test_one_that_dies_is_started_again_and_that_is_said(supervisor: Supervisor, tmp_path: Path):
    said: list[str] = []
    supervisor.progress = Progress(said.append)
    await supervisor.start([script(tmp_path, "READY; exec sleep 60")])
    [running] = supervisor.children
    first = running.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: running.pid not in (None, first))
    assert running.restarts == 1
    [end] = supervisor.ends
    assert (end.name, end.code) == ("it", -signal.SIGKILL)
    assert "it: ready in" in said[0]
    assert "was ended by signal 9" in said[1]


@pytest.mark.usefixtures("impatient")
async def test_one_that_ends_at_once_is_given_up_with_its_last_log_lines(supervisor: Supervisor, tmp_path: Path):
    with pytest.raises(StackError, match=r"it exited right after its start.*\n.*out of oil"):
        await supervisor.start([script(tmp_path, "echo out of oil; exit 1")])


@pytest.mark.usefixtures("impatient")
async def test_one_that_cannot_be_started_is_given_up_too(supervisor: Supervisor, tmp_path: Path):
    child = script(tmp_path, "")
    missing = Child(name="it", kind="server", argv=["/no/such"], log=child.log, ready=child.ready, env=ENV)
    with pytest.raises(StackError, match="it exited right after its start"):
        await supervisor.start([missing])


async def test_one_that_stands_still_is_given_up(supervisor: Supervisor, tmp_path: Path):
    with pytest.raises(StackError, match=r"it has stood still for 1 s and is not ready.*\n.*waiting"):
        await supervisor.start([script(tmp_path, "echo waiting; exec sleep 60", ready_s=1.0)])


async def test_one_that_works_is_waited_for(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(standstill, "_LOOK_S", 0.1)
    works = "end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ]; do :; done; READY; exec sleep 60"
    await supervisor.start([script(tmp_path, works, ready_s=0.5)])
    assert supervisor.children[0].was_ready


@pytest.mark.usefixtures("impatient")
async def test_one_that_lacks_its_servers_is_waited_for(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither standing still nor ending counts, until they are there."""
    monkeypatch.setattr(standstill, "_LOOK_S", 0.01)
    lacks = True
    supervisor.lacks_servers = lambda: lacks
    waiting = script(tmp_path, "exec sleep 60", name="waiting", kind="stage", ready_s=0.1)
    ending = script(tmp_path, "exit 75", name="ending", kind="stage", ready_s=0.1)
    starting = asyncio.create_task(supervisor.start([waiting, ending]))
    await until(lambda: len(supervisor.children) == 2 and supervisor.children[1].restarts > 6)
    assert not starting.done()
    lacks = False
    with pytest.raises(StackError, match=r"waiting has stood still|ending exited right after its start"):
        await starting


async def test_one_that_is_not_well_is_started_again(supervisor: Supervisor, tmp_path: Path):
    ill = tmp_path / "ill"
    prepared: list[int] = []

    async def trouble() -> str | None:
        return "has lost its folder" if ill.exists() else None

    async def cure() -> None:
        prepared.append(1)
        ill.unlink(missing_ok=True)

    supervisor.examine_s = 0.01
    await supervisor.start([replace(script(tmp_path, "READY; exec sleep 60"), health=lambda: trouble, prepare=cure)])
    first = supervisor.children[0].pid
    ill.touch()
    await until(lambda: supervisor.children[0].pid not in (None, first))
    assert (len(prepared), ill.exists()) == (2, False)


async def test_one_that_cannot_be_prepared_is_tried_again(supervisor: Supervisor, tmp_path: Path):
    tries: list[int] = []

    async def prepare() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StackError("the other is not there yet")

    await supervisor.start([replace(script(tmp_path, "READY; exec sleep 60"), prepare=prepare)])
    assert len(tries) == 3


async def test_the_servers_are_stopped_last(supervisor: Supervisor, tmp_path: Path):
    order = tmp_path / "order"
    text = "trap 'echo NAME >> ORDER; exit 0' TERM; READY; while :; do sleep 0.02; done".replace("ORDER", str(order))
    for kind in ("server", "proxy", "front"):
        await supervisor.start([script(tmp_path, text.replace("NAME", kind), name=kind, kind=kind)])
    await supervisor.stop()
    assert order.read_text().split() == ["front", "proxy", "server"]
    assert [running.pid for running in supervisor.children] == [None, None, None]
    assert not supervisor.ends


async def test_one_that_does_not_listen_is_killed(supervisor: Supervisor, tmp_path: Path):
    await supervisor.start([script(tmp_path, "trap '' TERM; READY; while :; do sleep 0.02; done", stop_s=0.2)])
    await supervisor.stop()
    assert supervisor.children[0].pid is None


async def test_a_helper_ends_when_nobody_waits_for_it_any_more(tmp_path: Path):
    pid = tmp_path / "pid"
    task = asyncio.create_task(run_to_end(["/bin/sh", "-c", f"echo $$ > {pid}; sleep 60; :"], env=ENV))
    await until(lambda: pid.exists() and pid.read_text().strip())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(int(pid.read_text()))


async def test_a_helper_tells_its_code_and_what_it_printed():
    assert await run_to_end(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], env=ENV) == (3, "out\nerr\n")


async def test_one_that_is_frozen_is_killed_with_all_that_it_started(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "Silence", partial(Silence, limit_s=0.2))
    changes: list[str | None] = []
    supervisor.changed = lambda: changes.append(supervisor.children[0].trouble)
    supervisor.examine_s, supervisor.noted_s = 0.05, 0.1
    calm, inner = tmp_path / "calm", tmp_path / "inner"
    calm.touch()

    async def alive() -> bool:
        return calm.exists()

    text = f"sleep 60 & echo $! > {inner}; READY; wait"
    await supervisor.start([replace(script(tmp_path, text), alive=alive)])
    await asyncio.sleep(0.3)  # it is asked several times, and answers
    [running] = supervisor.children
    first, below = running.pid, int(inner.read_text())
    assert first is not None and running.restarts == 0
    for pid in (first, below):
        os.kill(pid, signal.SIGSTOP)
    calm.unlink()
    await until(lambda: running.pid not in (None, first))
    assert not is_alive(first) and not is_alive(below)
    assert "does not answer" in changes


async def test_one_that_stands_still_before_its_first_answer_is_killed_too(supervisor: Supervisor, tmp_path: Path):
    async def alive() -> bool:
        return False

    supervisor.examine_s = 0.05
    await supervisor.start([replace(script(tmp_path, "READY; exec sleep 60"), alive=alive, ready_s=0.2)])
    [running] = supervisor.children
    first = running.pid
    await until(lambda: running.pid not in (None, first))


async def test_one_that_has_restarted_joins_the_others_once_it_is_ready(supervisor: Supervisor, tmp_path: Path):
    joined: list[int | None] = []

    async def rejoin() -> None:
        joined.append(supervisor.children[0].pid)
        if len(joined) == 1:
            raise OperatorError("the others are away")

    supervisor.examine_s = 0.01
    await supervisor.start([replace(script(tmp_path, "READY; exec sleep 60"), rejoin=rejoin)])
    [running] = supervisor.children
    first = running.pid
    assert first is not None and joined == []
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(joined) == 2)
    assert first not in joined


async def test_a_reply_is_more_than_an_open_port(tmp_path: Path):
    async def hold(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(4))
        writer.close()

    ports = allot(["silent", "open"], {}, {})
    async with (
        await asyncio.start_server(hold, "127.0.0.1", ports["silent"]),
        await asyncio.start_server(answer, "127.0.0.1", ports["open"]),
    ):
        assert await replies(ports["open"], b"PING")
        assert not await replies(ports["silent"], b"PING", within_s=0.1)
    assert not await replies(ports["open"], b"PING")


async def test_a_log_is_bounded_while_its_child_writes(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("stack.supervisor.rotate", partial(rotate, most=10_000))
    supervisor.examine_s = 0.02
    await supervisor.start([script(tmp_path, "READY; while true; do echo a line of the log; sleep 0.0001; done")])
    log, earlier = tmp_path / "it.log", tmp_path / "it.log.1"
    await until(earlier.exists)
    moved = earlier.read_bytes()
    assert len(moved) > 10_000 and moved.startswith(b"a line of the log")
    await until(lambda: log.stat().st_size > 0)  # the child goes on in the same file, from its start
    assert log.read_bytes().startswith(b"a line of the log")


def test_a_log_on_a_full_disk_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    log = tmp_path / "it.log"
    log.write_text("x" * 100)
    monkeypatch.setattr("shutil.copyfile", full)
    assert rotate(log, most=10) and log.stat().st_size == 0
    assert not rotate(log, most=10)
