"""The slowdown of this process on a busy machine, where it waits for processors: times are judged by it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 1.0
_WINDOW = 5
_LEAST_S = 0.01
BEARABLE = 1.9
"""Above it messages queue: times grow faster than the slowdown."""
START_S = 5.0
"""Processor time of the start of a process, with what it catches up: generous."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that a process has run, and has waited for a processor."""

    ran_s: float
    waited_s: float


def spent() -> Spent:
    """Return what this process has spent so far; without waits where the kernel does not count them."""
    try:
        ran_ns, waited_ns, _ = Path("/proc/self/schedstat").read_text().split()
    except OSError:
        return Spent(0.0, 0.0)
    return Spent(int(ran_ns) / 1e9, int(waited_ns) / 1e9)


def slowdown(before: Spent, after: Spent) -> float:
    """Return how many times longer the work between two moments took than on an idle machine. Pure."""
    ran_s, waited_s = after.ran_s - before.ran_s, after.waited_s - before.waited_s
    return 1.0 + waited_s / max(ran_s, _LEAST_S)


@dataclass(frozen=True, slots=True)
class Slowdown:
    """The slowdown of a whole run, and that of its worst seconds. 1 is that of an idle machine."""

    mean: float = 1.0
    worst: float = 1.0

    @property
    def is_bearable(self) -> bool:
        """Return whether times say something about the stack. On a busier machine they say nothing."""
        return self.mean <= BEARABLE

    def of_restart(self) -> float:
        """Return how many seconds longer a process may take to come back."""
        return START_S * (self.mean - 1.0)

    @classmethod
    def of(cls, samples: Sequence[Spent]) -> Slowdown:
        """Return the slowdown over samples, one a second. Pure."""
        if len(samples) < 2:
            return cls()
        windows = zip(samples, [*samples[_WINDOW:], *samples[-1:]], strict=False)
        return cls(slowdown(samples[0], samples[-1]), max(slowdown(*window) for window in windows))


IDLE = Slowdown()


@dataclass(slots=True)
class SlowdownSampler:
    """Samples once a second."""

    samples: list[Spent] = field(default_factory=list)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append(spent())
            await asyncio.sleep(_EVERY_S)
