"""Detects a child that answers nothing any more: it is stopped, or hangs in a loop or a system call."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stack.standstill import Standstill

SILENT_S = 60.0
"""A child that has answered before and is silent for so long is killed: longer than any pause that a machine makes."""
_MOST_S = 15.0
"""The most that the time from one look to the next counts: when the supervisor itself stood still, nobody watched."""


@dataclass(slots=True)
class Silence:
    """Measures how long a child has answered nothing, in one life of it.

    One that has not answered yet is starting, however long that takes; it is given up when it stands still for
    ``start_s``.
    """

    alive: Callable[[], Awaitable[bool]]
    start_s: float
    limit_s: float = SILENT_S
    clock: Callable[[], float] = time.monotonic
    silent_s: float = 0.0
    _has_answered: bool = False
    _looked_at: float = field(init=False)
    _start: Standstill = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.clock()
        self._start = Standstill(self.start_s, most_s=_MOST_S, most_cpu_s=math.inf, clock=self.clock)

    async def reason(self, pid: int) -> str | None:
        """Ask once more; return why the child must be killed, or None."""
        answered = await self.alive()
        now = self.clock()
        passed, self._looked_at = min(now - self._looked_at, _MOST_S), now
        if answered:
            self._has_answered, self.silent_s = True, 0.0
            return None
        if not self._has_answered:
            return self._start.reason([pid])
        self.silent_s += passed
        return f"has not answered for {self.limit_s:.0f} s" if self.silent_s >= self.limit_s else None
