"""Tools of the benchmarks: the clock of processes, the load client, trace points, the guard of a foreign server."""

from __future__ import annotations

import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from bench import hops
from bench.__main__ import METRICS
from bench.costs import Cost
from bench.machine import build_of, cpu_s, family_cpu_s
from bench.receipts import receipts_beside
from bench.traced import TRACES, Trace, owner_of, wrapped
from schemas.commands import Ack
from stack.processes import family
from tests.checkout import ROOT

BUSY_S = 0.05
LATE_S = 20.0


def burn() -> None:
    while time.thread_time() < BUSY_S:
        pass


def test_the_cpu_of_a_thread_that_has_ended_counts():
    before = cpu_s([os.getpid()])
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    assert cpu_s([os.getpid()]) - before >= BUSY_S


def test_the_cpu_of_a_process_that_has_ended_counts_for_its_family():
    before = family_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.1: pass"], check=True)
    assert family_cpu_s(os.getpid()) - before >= 0.08  # in ticks of 0.01 s


@pytest.mark.parametrize(
    ("config_args", "prefix", "build"),
    [
        ("'--enable-optimizations' '--with-lto'", "/usr/local", "PGO and LTO"),
        ("'--enable-optimizations'", "/usr/local", "PGO"),
        ("'--enable-shared'", "/root/versions/3.11", "plain"),
        ("'--with-dtrace'", "/usr", "the distribution's"),
    ],
)
def test_a_result_names_the_build_of_python(config_args: str, prefix: str, build: str):
    assert build_of(config_args, prefix) == build


def cost(messages: int, **cpu: float) -> Cost:
    return Cost(cpu, 10.0, {"messages": messages, "deliveries": 100 * messages})


def test_stores_count_where_they_are_asked_for():
    spent = cost(10, ingest=0.5, kafka=1.5, postgres=1.0, valkey=1.0)
    assert spent.per_core_second() == 500
    assert spent.per_core_second(["ingest"]) == 2000
    assert spent.per_core_second(["ingest"], stores=True) == 400
    assert spent.us() == 400_000


def test_receipts_cost_what_they_add_beyond_the_rest_of_the_stack():
    idle = {"ingest": 0.1}
    silent = cost(1000, ingest=2.0, postgres=0.5).without(idle)
    acknowledged = cost(1000, ingest=2.5, postgres=0.75).without(idle)
    pair = receipts_beside(acknowledged, silent, 0.0)
    assert (round(pair.ours), round(pair.reference), round(pair.ratio, 3)) == (750, 1500, 0.5)


def test_every_metric_is_described():
    page = (ROOT / "docs" / "performance.md").read_text()
    assert [name for name in METRICS if not re.search(rf"ONLY={name}\b", page)] == []


# the load client


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("name", ["wsload", "csrv"])
def test_the_programs_in_c_compile_without_a_warning(name: str, tmp_path: Path):
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(
        ["cc", *flags, "-o", tmp_path / name, ROOT / "bench" / f"{name}.c"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_load_client_acknowledges_as_the_protocol_wants_it():
    [form] = re.findall(r'snprintf\(ack, sizeof ack, "(.*?)", room_of', (ROOT / "bench" / "wsload.c").read_text())
    frame = form.replace('\\"', '"').replace("%s", "0199a0b0-0000-7000-8000-000000000000").replace("%ld", "7")
    ack = msgspec.json.decode(frame.encode(), type=Ack)
    assert (ack.conversation_id, ack.seq) == ("0199a0b0-0000-7000-8000-000000000000", 7)


# hops


def lines(message: str, *at_ms: tuple[str, float]) -> list[str]:
    return [f"{int(ms * 1e6)} {point} {message}" for point, ms in at_ms]


def test_a_hop_is_the_median_of_the_delays_from_the_point_before():
    found = hops.between(
        [
            *lines("a", ("handler", 0), ("stored", 3), ("answered", 9), ("produced", 5)),
            *lines("b", ("handler", 10), ("stored", 15), ("answered", 16), ("produced", 19)),
            *lines("c", ("handler", 20), ("stored", 21)),  # on its way
        ]
    )
    assert [(hop.after, hop.name, hop.median_ms) for hop in found] == [
        ("handler", "stored", 4.0),
        ("stored", "answered", 3.5),
        ("stored", "produced", 3.0),  # nothing waits for the answer
    ]
    assert "not traced: batch, event" in hops.table(found)


def test_a_message_that_passes_a_point_twice_was_there_the_first_time():
    assert hops.parse(["20 written a", "10 written a", "30 written b"]) == {"a": {"written": 10}, "b": {"written": 30}}


def test_without_traces_there_are_no_hops():
    assert hops.between([]) == []


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.method)
def test_every_trace_point_is_a_method_of_the_product(trace: Trace):
    owner, name = owner_of(trace)
    assert callable(getattr(owner, name))


def test_the_points_are_those_of_the_table():
    points = [point for trace in TRACES for point in (trace.begins, trace.ends) if point]
    assert sorted(points) == sorted(hops.ORDER)


async def test_a_traced_call_does_what_it_did_and_notes_its_begin_and_end():
    trace = Trace("m", "m:C.f", lambda args, result: [args[0], result], begins="from", ends="to")
    noted: list[str] = []

    async def later(text: str) -> str:
        return text.upper()

    def at_once(text: str) -> str:
        return text.upper()

    assert await wrapped(later, trace, noted.append)("a") == "A"
    assert wrapped(at_once, trace, noted.append)("b") == "B"
    words = [line.split()[1:] for text in noted for line in text.splitlines()]
    assert words == [[point, id_] for id_ in "aAbB" for point in ("from", "to")]


def test_a_call_that_raises_is_not_noted():
    noted: list[str] = []

    def fails(_: str) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        wrapped(fails, Trace("m", "m:C.f", lambda args, _: args, ends="to"), noted.append)("a")
    assert noted == []


# the guard


def test_a_guard_ends_what_it_guards_when_its_parent_is_killed():
    user = pwd.getpwuid(os.getuid()).pw_name
    guard = [sys.executable, "-m", "bench.guard", user, "sh", "-c", "setsid sleep 90 & exec sleep 90"]
    code = f"import subprocess, sys; subprocess.Popen({guard!r}); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, cwd=ROOT) as parent:
        sleeping = watched(parent.pid, 2)
        parent.send_signal(signal.SIGKILL)
    for fd in sleeping:
        assert select.select([fd], [], [], LATE_S)[0], "it lives on"
        os.close(fd)


def watched(ancestor: int, count: int) -> list[int]:
    """Return descriptors of the sleeping descendants, which are readable once these have ended."""
    end = time.monotonic() + LATE_S
    while time.monotonic() < end:
        found = [pid for pid in family(ancestor) if name_of(pid) == "sleep"]
        if len(found) == count:
            return [os.pidfd_open(pid) for pid in found]
        time.sleep(0.02)
    raise AssertionError("they did not start")


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
