"""Twin of the rate limits."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.errors import RateLimited

_WINDOW_S = 60.0


@dataclass(slots=True)
class MemoryRates:
    """Rates over a window of a minute, by a clock that can be set."""

    clock: Callable[[], float] = time.monotonic
    hits: defaultdict[tuple[str, str], deque[float]] = field(default_factory=lambda: defaultdict(deque))

    async def hit(self, what: str, who: str, per_minute: int) -> None:
        if per_minute <= 0:
            return
        times, now = self.hits[what, who], self.clock()
        while times and times[0] <= now - _WINDOW_S:
            times.popleft()
        if len(times) >= per_minute:
            raise RateLimited(f"more than {per_minute} a minute; slow down", times[0] + _WINDOW_S - now)
        times.append(now)
