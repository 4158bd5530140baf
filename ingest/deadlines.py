"""Deadlines of many waits that all have the same length, under one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_RESOLUTION_S = 0.001
"""Seconds by which the timer of an event loop may be early."""


@dataclass(slots=True)
class Deadlines(Generic[T]):
    """Calls ``on_reached`` with each wait that lasts for ``seconds``.

    As all have the same length, they end in the order in which they began, and one timer, for the first of them, is
    enough. There is no timer while nothing waits.
    """

    seconds: float
    on_reached: Callable[[T], None]
    _ends: dict[T, float] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many waits have begun, and neither ended nor reached their deadline."""
        return len(self._ends)

    def begin(self, wait: T) -> None:
        """Begin a wait, or begin it anew."""
        loop = asyncio.get_running_loop()
        self._ends.pop(wait, None)
        self._ends[wait] = at = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._check)

    def end(self, wait: T) -> None:
        """End a wait, if it has not ended yet."""
        self._ends.pop(wait, None)
        if not self._ends and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, now = None, loop.time() + _RESOLUTION_S
        reached = []
        for wait, at in self._ends.items():
            if at > now:
                self._timer = loop.call_at(at, self._check)
                break
            reached.append(wait)
        for wait in reached:
            del self._ends[wait]
        for wait in reached:
            self.on_reached(wait)
