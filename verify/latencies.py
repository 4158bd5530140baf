"""Latencies: the times to each edge while no fault that can hurt it is felt. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verify.edges import Edge
from verify.history import History
from verify.recovery import calm, measured


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of ``count`` messages to one edge, in seconds."""

    count: int
    median_s: float
    p99_s: float
    most_s: float


def latency(seconds: Sequence[float]) -> Latency:
    """Return the quantiles: of all values, those that half, 99 % and all do not exceed; zeros when there are none."""
    ordered = sorted(seconds)
    return Latency(len(ordered), *(quantile(ordered, share) for share in (0.5, 0.99, 1.0)))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that ``share`` of all do not exceed; 0 when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def latencies(history: History) -> Mapping[Edge, Latency]:
    """Return the latency of each edge that was measured. Recoveries must be set before."""
    until = history.observed_until
    found = {
        edge: latency([each.seconds(until) for each in calm(edge, taken, history.faults, until)])
        for edge, taken in measured(history).items()
    }
    return {edge: each for edge, each in found.items() if each.count}
