"""Twin of the rate limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.rates import Bucket, Limit, Standing
from schemas.fields import Action


@dataclass(slots=True)
class MemoryRates:
    """Token buckets by a clock that can be set. Nodes that share this have their buckets in common."""

    clock: Callable[[], float] = time.monotonic
    buckets: dict[tuple[Action, str], Bucket] = field(default_factory=dict)

    async def take(self, action: Action, user_id: str, limit: Limit, cost: float = 1.0) -> Standing:
        if limit.is_off:
            return Standing(action, limit, 0.0)
        bucket, now = self.buckets.setdefault((action, user_id), Bucket(limit)), self.clock()
        wait_s = 0.0 if bucket.take(cost, now) else bucket.wait_s(cost, now)
        return Standing(action, limit, max(0.0, bucket.refill(now)), wait_s)

    async def look(self, action: Action, user_id: str, limit: Limit) -> Standing:
        bucket = self.buckets.get((action, user_id), Bucket(limit))
        return Standing(action, limit, max(0.0, bucket.refill(self.clock())))
