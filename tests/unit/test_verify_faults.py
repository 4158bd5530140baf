"""Faults: their registry, their schedule, and those that need no server."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from stack.processes import family, lives
from stack.running import STATE
from stack.servers.data_dir import DataDir
from verify.fake_clock import environment, library, set_clock
from verify.fault_proxy import FaultProxy, open_proxy
from verify.faults import FAULTS, NotPossible, Target, disk, fault, process
from verify.faults.network import ACCEPTED, LINKS, _Edge
from verify.faults.process import KillAgain, send

TIME = "import time; print(int(time.time()), int(time.monotonic()))"


def target(tmp_path: Path, **processes: int | None) -> Target:
    entries = [{"name": n, "kind": "x", "pid": pid, "port": 1, "opsPort": None} for n, pid in processes.items()]
    DataDir(tmp_path).write(STATE, {"processes": entries})
    return Target(data=tmp_path, kafka="", pg_dsn="", redis_url="", rng=random.Random(1))


@contextmanager
def running(*argv: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, cwd=cwd)
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
    assert all(fault(name).summary[0].islower() and fault(name).summary[-1] != "." for name in FAULTS)
    assert all(fault(name).evidence == "" for name in FAULTS)
    assert {"kill-postgres", "hole-kafka", "wipe-kafka", "kill-leader", "flush-redis", "clock-gateway"} <= FAULTS.keys()


async def test_a_process_is_stopped_with_its_children_and_goes_on(tmp_path: Path):
    with running("sh", "-c", "sleep 60 & sleep 60") as parent:
        await until(lambda: len(family(parent.pid)) == 3)
        pids = family(parent.pid)
        pause, around = fault("pause-status"), target(tmp_path, status=parent.pid)
        await pause.inject(around)
        assert all(state_of(pid) == "T" for pid in pids)
        assert pause.evidence == f"status, process {parent.pid}, stood still"
        await pause.heal(around)
        await until(lambda: all(state_of(pid) == "S" for pid in pids))
        kill = fault("kill-status")
        await kill.inject(around)
        assert not any(map(lives, pids))
        assert kill.evidence == f"status, process {parent.pid}, ended"


async def test_one_of_a_role_is_told_to_end(tmp_path: Path):
    with running("sleep", "60") as one, running("sleep", "60") as two:
        end = fault("end-gateway")
        await end.inject(target(tmp_path, **{"gateway-1": one.pid, "gateway-2": two.pid}))
        assert sorted([one.poll() or 0, two.poll() or 0]) == [-signal.SIGTERM, 0]
        assert "ended after" in end.evidence


async def test_a_process_that_does_not_obey_shows_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "ENDS_S", 0.3)
    with running("sh", "-c", "trap '' TERM; echo; while true; do sleep 1; done") as deaf:
        await until(lambda: ignores(deaf.pid, signal.SIGTERM))
        end = fault("end-gateway")
        await end.inject(target(tmp_path, gateway=deaf.pid))
        assert end.evidence == ""


def ignores(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(ignored, 16) >> (number - 1) & 1)


async def test_a_role_is_killed_each_time_it_is_back(tmp_path: Path):
    """This test is the supervisor."""
    again = fault("kill-status-again")
    assert isinstance(again, KillAgain)
    again.pause_s = (0.0, 0.01)
    around = target(tmp_path)
    with ExitStack() as processes:
        lives_of = [processes.enter_context(running("sleep", "60"))]
        target(tmp_path, status=lives_of[-1].pid)
        await again.inject(around)
        for number in range(1, 6):
            await until(lambda: lives_of[-1].poll() is not None)
            await until(lambda number=number: again.evidence == f"status ended {number} times")
            target(tmp_path, status=None)
            lives_of.append(processes.enter_context(running("sleep", "60")))
            target(tmp_path, status=lives_of[-1].pid)
        await again.heal(around)


async def test_a_blackout_ends_all_processes_at_once(tmp_path: Path):
    with running("sh", "-c", "sleep 60 & sleep 60") as one, running("sleep", "60") as two:
        await until(lambda: len(family(one.pid)) == 3)
        blackout = fault("blackout")
        await blackout.inject(target(tmp_path, status=one.pid, postgres=two.pid, kafka=None))
        assert (one.poll(), two.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert blackout.evidence == "4 processes of 2 parts ended"


@asynccontextmanager
async def talking(proxy: FaultProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client of an echo server behind the proxy."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.upstream = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"begin")
    await reader.readexactly(5)
    yield reader, writer
    writer.close()
    server.close()


OF_EDGES = {
    "hole-ws": ("16 bytes held", b"a long statement"),
    "cut-ws": ("1 connections reset", b"a long statement"),
    "slow-ws": ("32 bytes slowed down", b"a long statement"),
    "slices-ws": ("32 bytes sent alone", b"a long statement"),
    "refuse-kafka": ("1 connections reset", b"a long statement"),
    "cut-answer-postgres": ("the trap sprang 1 times", ACCEPTED),
}


def edge_fault(name: str) -> _Edge:
    made = fault(name)
    assert isinstance(made, _Edge)
    return made


@pytest.mark.parametrize("name", OF_EDGES)
async def test_a_fault_of_an_edge_knows_whether_something_met_it(tmp_path: Path, name: str):
    evidence, words = OF_EDGES[name]
    async with open_proxy() as proxy:
        idle = edge_fault(name)
        around = replace(target(tmp_path), proxies={idle.edge: proxy})
        await idle.inject(around)
        await idle.heal(around)
        assert idle.evidence == ""
        async with talking(proxy) as (reader, writer):
            met = fault(name)
            await met.inject(around)
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                writer.write(words)
                async with asyncio.timeout(0.9):  # a hole answers nothing
                    await reader.readexactly(len(words))
            await met.heal(around)
            assert met.evidence == evidence


async def test_a_fault_before_redis_meets_all_who_go_there_and_one_of_a_link_only_that(tmp_path: Path):
    names = ("valkey", "ingest-valkey", "gateway-valkey", "kafka")
    around = replace(target(tmp_path), proxies={name: FaultProxy(0) for name in names})

    def held() -> list[str]:
        return [name for name, proxy in around.proxies.items() if proxy.up.black_hole]

    await fault("hole-gateway-valkey").inject(around)
    assert held() == ["gateway-valkey"]
    await fault("hole-valkey").inject(around)
    assert held() == ["valkey", "ingest-valkey", "gateway-valkey"]


@pytest.mark.parametrize(
    ("name", "held"),
    [("split-kafka", {"peers-of-kafka-1", "controller-of-kafka-1"}), ("split-valkey", {"bus-of-kafka-1"})],
)
async def test_a_split_holds_what_the_others_send_to_a_node(tmp_path: Path, name: str, held: set[str]):
    server = name.removeprefix("split-")
    edges = {edge.replace("kafka", server) for edge in held} | {"kafka-1", "peers-of-kafka-2", "controller-of-kafka-2"}
    around = replace(target(tmp_path, **{f"{server}-1": 1}), proxies={edge: FaultProxy(0) for edge in edges})
    split = fault(name)
    await split.inject(around)
    assert {edge for edge, proxy in around.proxies.items() if proxy.up.black_hole and proxy.down.black_hole} == {
        edge.replace("kafka", server) for edge in held
    }
    next(proxy for proxy in around.proxies.values() if proxy.up.black_hole).counts.held += 7
    for proxy in around.proxies.values():
        proxy._server = cast(asyncio.Server, object())  # nothing has to listen here
    await split.heal(around)
    assert split.evidence == "7 bytes held"
    assert not any(proxy.up.black_hole for proxy in around.proxies.values())


def test_every_fault_of_an_edge_names_both_sides():
    edges = {made.edge for made in map(fault, FAULTS) if isinstance(made, _Edge)}
    assert edges == LINKS.keys()


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
        with pytest.raises(NotPossible, match="mount"):
            await fault("full-postgres").inject(target(tmp_path, postgres=server.pid))


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


async def test_a_full_disk_counts_when_the_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The disk of this test is small and ends by itself."""
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "postgres.log"
    log.write_text("yesterday: No space left on device\n")
    (tmp_path / "pg_wal").mkdir()
    monkeypatch.setattr(disk, "_PREPARED", 2**63)
    monkeypatch.setattr(disk, "_fill", Path.touch)
    with running(sys.executable, "-c", "import time; time.sleep(60)", "-D", str(tmp_path)) as server:
        await until(lambda: b"-D" in Path(f"/proc/{server.pid}/cmdline").read_bytes())
        around = target(tmp_path, postgres=server.pid)
        for line, evidence in (("all is well", ""), ("PANIC: No space left on device", "postgres found no space")):
            full = fault("full-postgres")
            await full.inject(around)
            assert (tmp_path / "pg_wal" / "filler").exists()
            log.write_text(f"{log.read_text()}{line}\n")
            await full.heal(around)
            assert full.evidence == evidence
            assert not (tmp_path / "pg_wal" / "filler").exists()


@pytest.mark.parametrize("role", ["kafka", "valkey"])
async def test_the_storage_of_a_server_is_removed_while_it_runs(tmp_path: Path, role: str):
    storage = tmp_path / role
    storage.mkdir()
    (storage / "held").write_bytes(bytes(8192))
    (tmp_path / "kafka.properties").write_text("node.id=1\nlog.dirs=kafka\n")
    where = tmp_path if role == "kafka" else storage
    with running(sys.executable, "-c", "import time; time.sleep(60)", "kafka.properties", cwd=where) as server:
        await until(lambda: b"kafka.properties" in Path(f"/proc/{server.pid}/cmdline").read_bytes())
        lose = fault(f"lost-folder-{role}")
        await lose.inject(target(tmp_path, **{role: server.pid}))
        assert not storage.exists()
        assert server.poll() is None
        assert lose.evidence == f"{role}, process {server.pid}, lost 8 kB"
