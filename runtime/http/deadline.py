"""The deadline of a connection's present state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """A deadline that moves often and is seldom reached; its timer is touched only when it comes earlier."""

    __slots__ = ("_loop", "_on_reached", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.at: float | None = None
        self._loop = loop
        self._on_reached: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, on_reached: Callable[[], None]) -> None:
        """Call ``on_reached`` after so many seconds, unless the deadline is moved before."""
        self.at, self._on_reached = self._loop.time() + seconds, on_reached
        if self._timer is not None and self._timer.when() > self.at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self.at, self._check)

    def extend(self, seconds: float, at_most: float) -> None:
        """Move the deadline by so many seconds, to at most this many from now."""
        if self.at is not None:
            self.at = min(self.at + seconds, self._loop.time() + at_most)

    def clear(self) -> None:
        """Have none."""
        self.at = None

    def cancel(self) -> None:
        """End for good."""
        self.at = None
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        if self.at is None:
            return
        if self._loop.time() < self.at:
            self._timer = self._loop.call_at(self.at, self._check)
            return
        self.at = None
        assert self._on_reached is not None
        self._on_reached()
