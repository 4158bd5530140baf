"""CPU time and memory of processes, as Linux counts them, and a description of the machine."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of these processes so far, of all threads (schedstat: nanoseconds, not ticks)."""
    total = 0
    for pid in pids:
        for task in (_PROC / str(pid) / "task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


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
        "kernel": platform.release(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }
