"""``python -m bench.guard USER PROGRAM ARG…``: run a program as a user, and end all that descends from it.

Some servers outlive the script that starts them. This process adopts what loses its parent, and ends all of it when it
is told to end, when the program ends, and when its own parent ends, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from stack.child import end_with_parent
from stack.processes import family

_PR_SET_CHILD_SUBREAPER = 36


def run(user: str, argv: Sequence[str]) -> int:
    """Run the program to its end; return its exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _stop)
    end_with_parent(os.getppid(), signal.SIGTERM)
    try:
        return subprocess.Popen(argv, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **_as(user)).wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_descendants()


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _as(user: str) -> dict[str, Any]:
    entry = pwd.getpwnam(user)
    return {} if entry.pw_uid == os.getuid() else {"user": user, "group": entry.pw_gid, "extra_groups": []}


def _end_descendants() -> None:
    """Kill until nobody is left: one that was killed leaves its children to this process."""
    while descendants := family(os.getpid())[1:]:
        for pid in descendants:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
