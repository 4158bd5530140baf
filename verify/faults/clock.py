"""Faults of clocks: a wall clock that steps."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from verify.fake_clock import set_clock
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Process, Target

NEEDED = "libfaketime"
_SEEN_S = 10.0
_LOOK_S = 0.25


@dataclass(slots=True, kw_only=True)
class StepClock(Fault):
    """Steps the wall clock of one process; its monotonic clock stays true."""

    role: str
    step_s: int
    lasts_s: float = 20.0
    needs: str = NEEDED
    _node: str | None = None

    def __post_init__(self) -> None:
        self.name, self.targets = f"clock-{self.role}", (self.role,)
        self.summary = f"steps the clock of a process {self.role} by {self.step_s:+d} s for {self.lasts_s:.0f} s"

    async def inject(self, target: Target) -> None:
        if target.clocks is None:
            raise NotPossible("the processes were not started by verify.fake_clock")
        nodes = [node.name for node in sorted(target.clocks.iterdir()) if node.name.startswith(f"{self.role}-")]
        if not nodes:
            raise NotPossible(f"no {self.role} runs under a clock of its own")
        self._node = target.rng.choice(nodes)
        set_clock(target.clocks, self._node, self.step_s)
        await self._look(target, self._node)

    async def _look(self, target: Target, node: str) -> None:
        """Wait until an answer of the process bears the other time."""
        until = time.monotonic() + _SEEN_S
        while time.monotonic() < until:
            for process in target.processes():
                ahead = await _ahead_s(process) if process.name in (node, self.role) else 0.0
                if abs(ahead - self.step_s) < abs(self.step_s) / 2:
                    self.evidence = f"{process.name} told a time {ahead:+.0f} s from ours"
                    return
            await asyncio.sleep(_LOOK_S)

    async def heal(self, target: Target) -> None:
        if self._node is not None and target.clocks is not None:
            set_clock(target.clocks, self._node, 0)
            self._node = None


async def _ahead_s(process: Process) -> float:
    """Return how many seconds a process's clock is ahead of ours, as its answers say; 0 when it does not answer."""
    with suppress(httpx2.HTTPError, KeyError, ValueError):
        async with httpx2.AsyncClient(timeout=1) as client:
            answer = await client.get(f"http://127.0.0.1:{process.ops_port}/healthz")
        return parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    return 0.0
