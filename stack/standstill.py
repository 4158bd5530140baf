"""Decide when to give up a process that is starting: after a time without work, however long the start takes.

A process works when it uses a processor, waits for one, or waits for a disk. Linux shows that in ``/proc`` (proc(5));
elsewhere nothing is seen to work, so the clock decides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stack.processes import family

_PROC = Path("/proc")
_LOOK_S = 1.0
_WORKS = 0.1
"""Of one processor. A process that uses less, and does not wait for one, only polls whether others are ready."""
MOST_CPU_S = 300.0
"""A process that used so much and is not ready makes no progress."""


@dataclass(slots=True)
class Activity:
    """The work of some processes. ``wants``: a thread of theirs runs, waits for a processor, or waits for a disk."""

    cpu_s: float
    wants: bool


def activity(ancestors: Iterable[int]) -> Activity:
    """Look at these processes and all that they started."""
    cpu_s, wants = 0.0, False
    for pid in {member for ancestor in ancestors for member in _family(ancestor)}:
        for thread in _threads(pid):
            with suppress(OSError):  # it has ended
                parts = (thread / "stat").read_text().rpartition(")")[2].split()
                wants = wants or parts[0] in "RD"
                cpu_s += (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return Activity(cpu_s, wants)


def _threads(pid: int) -> list[Path]:
    """Return the folders of a process's threads; none once it has ended, which it may do at any time."""
    try:
        return list((_PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _family(ancestor: int) -> list[int]:
    """Return the process and its descendants, as their parents list them: that costs less than to read all of /proc."""
    found = [ancestor]
    for pid in found:
        for thread in _threads(pid):
            try:
                found += [int(child) for child in (thread / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                if thread.exists():  # a kernel without CONFIG_PROC_CHILDREN
                    return family(ancestor)
    return found


@dataclass(slots=True)
class Standstill:
    """Measures how long some processes have stood still. A second of work cancels a second of standing still.

    ``most_s``: how much the time between two looks may count. What was not watched is not judged: the process had not
    begun, or the one that looks was held up itself.
    """

    limit_s: float
    most_s: float = 2 * _LOOK_S
    most_cpu_s: float = MOST_CPU_S
    clock: Callable[[], float] = time.monotonic
    look: Callable[[Iterable[int]], Activity] = activity
    still_s: float = 0.0
    used_s: float = 0.0
    _at: float = field(init=False)
    _cpu_s: float = 0.0

    def __post_init__(self) -> None:
        self._at = self.clock()

    def reason(self, pids: Iterable[int]) -> str | None:
        """Look once more, at most once a second; return why patience is at an end, or None while it is not."""
        passed = self.clock() - self._at
        if passed < _LOOK_S:
            return None
        self._at += passed
        seen = self.look(pids)
        used = max(0.0, seen.cpu_s - self._cpu_s)
        self._cpu_s = seen.cpu_s
        self.used_s += used
        watched = min(passed, self.most_s)
        if seen.wants or used >= _WORKS * passed:
            self.still_s = max(0.0, self.still_s - watched)
        else:
            self.still_s += watched
        if self.still_s > self.limit_s:
            return f"has stood still for {self.limit_s:.0f} s"
        if self.used_s > self.most_cpu_s:
            return f"has used {self.most_cpu_s:.0f} s of processor time"
        return None
