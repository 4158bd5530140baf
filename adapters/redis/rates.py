"""Rate limits that all nodes share through Redis; without Redis each node counts for itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from adapters.redis.client import OUTAGES, Address
from adapters.redis.slot_client import SlotClient, open_slot_client
from domain.errors import RateLimited, Unavailable

_log = structlog.get_logger()

_PREFIX = "rate"
_RETRY_REDIS_S = 2.0


@dataclass(slots=True)
class SharedLimiters:
    """Limiters by server.

    The client library's own limiter for clusters closes connections that others use when one of them fails.
    """

    client: SlotClient
    _limiters: dict[Address, SlidingWindowCounterRateLimiter] = field(default_factory=dict)

    async def of(self, item: RateLimitItem, what: str, who: str) -> SlidingWindowCounterRateLimiter:
        """Return the limiter of the server that holds the counters. Raises Unavailable."""
        if self.client.is_cluster and not self.client.owners:
            await self.client.refresh()
        address = self.client.owner(f"{{{item.key_for(what, who)}}}")
        if address is None:
            raise Unavailable("no Redis server owns the slot")
        if address not in self._limiters:
            storage = RedisStorage(
                self.client.target.url_of(address),
                implementation="redispy",
                key_prefix=_PREFIX,
                socket_timeout=1.0,
                socket_connect_timeout=1.0,
            )
            self._limiters[address] = SlidingWindowCounterRateLimiter(storage)
        return self._limiters[address]

    async def failed(self) -> None:
        """Look for the owners of the slots again, since another server may hold the counters now. Raises nothing."""
        with suppress(Unavailable):
            await self.client.refresh()


@dataclass(slots=True)
class RateLimiter:
    """Sliding-window counters. Limits always hold: without Redis for each node alone."""

    shared: SharedLimiters
    local: SlidingWindowCounterRateLimiter
    _local_until: float = 0.0

    async def hit(self, what: str, who: str, per_minute: int) -> None:
        """Count one call. Raises RateLimited when ``who`` is over the limit; a limit of 0 means none."""
        if per_minute <= 0:
            return
        item = RateLimitItemPerMinute(per_minute)
        limiter, allowed = self.local, False
        if time.monotonic() >= self._local_until:
            try:
                shared = await self.shared.of(item, what, who)
                allowed = await shared.hit(item, what, who)
                limiter = shared
            except (Unavailable, *OUTAGES) as exc:
                self._local_until = time.monotonic() + _RETRY_REDIS_S
                _log.debug("rates_counted_locally", limit=what, wait_s=_RETRY_REDIS_S, reason=type(exc).__name__)
                await self.shared.failed()
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
    """Yield a limiter; Redis may come later."""
    async with open_slot_client(url) as client:
        yield RateLimiter(SharedLimiters(client), SlidingWindowCounterRateLimiter(MemoryStorage()))
