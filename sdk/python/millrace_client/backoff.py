"""Waits between tries: exponential, with jitter, and never shorter than the server asks for. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Times in seconds. The wait doubles from ``first_s`` to ``max_s``; each is multiplied by a random share between
    ``least`` and ``most``, so that clients that failed together do not return together."""

    first_s: float = 0.1
    max_s: float = 3.0
    least: float = 0.0
    most: float = 1.0
    chance: random.Random = field(default_factory=random.Random)
    _wait_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._wait_s = self.first_s

    def next(self, at_least_s: float = 0.0) -> float:
        """Return the next wait. ``at_least_s`` is what the server has asked for, as by ``Retry-After``."""
        wait_s = self._wait_s * self.chance.uniform(self.least, self.most)
        self._wait_s = min(self._wait_s * 2, self.max_s)
        return at_least_s + wait_s if at_least_s else wait_s

    def reset(self) -> None:
        """Begin again with ``first_s``: the last try has succeeded."""
        self._wait_s = self.first_s
