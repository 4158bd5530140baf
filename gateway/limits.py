"""Limits of a socket, a user and an address. Pure: time comes in as an argument.

All of it is counted by each node for itself: a limit protects the node, so nothing is asked of Redis for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BURST_S = 4.0
"""Seconds' worth that may come at once, where a burst has no size of its own."""
_KEYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a node; docs/settings.md explains each. 0 turns a limit off."""

    max_connections: int = 20_000
    connections_per_user: int = 50
    connections_per_address: int = 500
    connects_per_s_user: float = 5.0
    connects_per_s_address: float = 50.0
    frames_per_s: float = 50.0
    joins_per_s: float = 20.0
    max_subscriptions: int = 200
    slow_client_timeout_s: float = 120.0
    handshake_timeout_s: float = 5.0
    replay_bytes_per_s: float = 4 * 1024 * 1024
    replay_burst_bytes: float = 64 * 1024 * 1024


@dataclass(slots=True)
class Bucket:
    """Token bucket: ``rate`` tokens a second come back, up to ``burst``. Without a rate it never empties."""

    rate: float
    burst: float
    _credit: float = 0.0
    _credited_at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token; return False when there is none."""
        if self.rate <= 0:
            return True
        self._refill(now)
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def spend(self, amount: float, now: float) -> None:
        """Take as many tokens as that, even more than there are: the bucket owes the rest."""
        if self.rate > 0:
            self._refill(now)
            self._credit -= amount

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token again; 0 when there is one."""
        if self.rate <= 0:
            return 0.0
        self._refill(now)
        return 0.0 if self._credit >= 1 else (1 - self._credit) / self.rate

    def full(self, now: float) -> bool:
        """Return whether the bucket is like a new one."""
        if self.rate <= 0:
            return True
        self._refill(now)
        return self._credit >= self.burst

    def _refill(self, now: float) -> None:
        since = self.burst / self.rate if self._credited_at is None else max(0.0, now - self._credited_at)
        self._credit = min(self.burst, self._credit + since * self.rate)
        self._credited_at = now


@dataclass(slots=True)
class Rates:
    """Token buckets by key; a full one is forgotten."""

    rate: float
    burst: float
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _prune_at: int = _KEYS

    def take(self, key: str, now: float) -> bool:
        """Take a token of this key; return False when there is none."""
        if self.rate <= 0:
            return True
        if len(self._buckets) >= self._prune_at:
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.full(now)}
            self._prune_at = max(_KEYS, 2 * len(self._buckets))
        return self._buckets.setdefault(key, Bucket(self.rate, self.burst)).take(now)
