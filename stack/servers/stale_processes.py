"""The pid file of a killed PostgreSQL, which may name a process of another program by now.

The server refuses to start while the process in its pid file exists. A zombie exists, for ever under an init that
does not reap (many containers), and so does a stranger with the same number after a reboot. Whether the file is
stale is therefore judged by the folder in which processes work: every process of a cluster works in its data folder.
The file is removed only when none is left, as the server's own check for survivors goes by that file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from stack.errors import StackError
from stack.processes import working_in

_PROC = Path("/proc")


async def remove_stale_pid_file(data: Path, wait_s: float = 10.0) -> None:
    """Remove a stale pid file; wait for processes that are still ending. Raises StackError when they do not."""
    file = data / "postmaster.pid"
    deadline = asyncio.get_running_loop().time() + wait_s
    while file.exists() and (living := working_in(data)):
        if asyncio.get_running_loop().time() > deadline:
            pids = ", ".join(map(str, sorted(living)))
            raise StackError(f"processes of an earlier PostgreSQL still work in {data}: {pids}; end them")
        await asyncio.sleep(0.05)
    if _PROC.is_dir() and _names_a_process(file):  # noqa: ASYNC240 - /proc does not block
        file.unlink()


def _names_a_process(file: Path) -> bool:
    try:
        first = file.read_text().split("\n", 1)[0].strip()
    except FileNotFoundError:
        return False
    return first.isdigit() and (_PROC / first).exists()
