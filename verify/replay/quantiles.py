"""Quantiles of millions of times in little memory: buckets 1 % apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_GROWTH = math.log(1.01)
_LEAST = 1e-6


@dataclass(slots=True)
class Quantiles:
    """Collects seconds; ``at`` is right to 1 %."""

    count: int = 0
    most: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, values: Iterable[float]) -> None:
        """Count these values."""
        for value in values:
            self.count += 1
            self.most = max(self.most, value)
            self._buckets[int(math.log(max(value, _LEAST) / _LEAST) / _GROWTH)] += 1

    def at(self, share: float) -> float:
        """Return the value that ``share`` of all do not exceed; 0 when there are none."""
        left = share * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(_LEAST * math.exp((bucket + 1) * _GROWTH), self.most)
        return self.most

    def milliseconds(self) -> dict[str, float]:
        """Return p50, p95, p99 and the maximum in milliseconds."""
        named = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {**{k: round(self.at(v) * 1000, 2) for k, v in named.items()}, "max": round(self.most * 1000, 2)}
