"""Rate limits, shared by all nodes through Redis; when Redis is away, each node counts for itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisClusterStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from runtime.errors import RateLimited
from runtime.redis.client import CLUSTER, OUTAGES, target

_PREFIX = "rate"
_RETRY_REDIS_S = 2.0


@dataclass(slots=True)
class RateLimiter:
    """Sliding-window counters. Never open: without Redis the limit holds for each node alone."""

    shared: SlidingWindowCounterRateLimiter
    local: SlidingWindowCounterRateLimiter
    _local_until: float = 0.0

    async def hit(self, what: str, who: str, per_minute: int) -> None:
        """Count one. Raises RateLimited when ``who`` is over; 0 means no limit."""
        if per_minute <= 0:
            return
        item = RateLimitItemPerMinute(per_minute)
        limiter, allowed = self.local, False
        if time.monotonic() >= self._local_until:
            try:
                allowed = await self.shared.hit(item, what, who)
                limiter = self.shared
            except OUTAGES:
                self._local_until = time.monotonic() + _RETRY_REDIS_S
        if limiter is self.local:
            allowed = await self.local.hit(item, what, who)
        if not allowed:
            raise RateLimited(
                f"more than {per_minute} a minute; slow down", await _retry_after(limiter, item, what, who)
            )


async def _retry_after(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, what: str, who: str) -> float:
    try:
        stats = await limiter.get_window_stats(item, what, who)
    except OUTAGES:
        return 1.0
    return min(max(0.1, stats.reset_time - time.time()), 60.0 / item.amount * 10 + 1.0)


@asynccontextmanager
async def open_rate_limiter(url: str) -> AsyncIterator[RateLimiter]:
    """A limiter; Redis may come later."""
    kind = RedisClusterStorage if target(url).is_cluster else RedisStorage
    storage = kind(
        url.replace(CLUSTER, f"async+{CLUSTER}", 1),
        implementation="redispy",
        key_prefix=_PREFIX,
        socket_timeout=1.0,
        socket_connect_timeout=1.0,
    )
    yield RateLimiter(SlidingWindowCounterRateLimiter(storage), SlidingWindowCounterRateLimiter(MemoryStorage()))
