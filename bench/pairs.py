"""Pairs of measurements, ours and the reference, taken in turns, so that other load of the machine meets both."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, median_low
from typing import Any, Literal, TypeAlias, TypeVar

T = TypeVar("T")
Measure: TypeAlias = Callable[[], Awaitable[float]]

UNSTEADY = 0.25
"""Largest relative distance of a pair's reference from the median of all; pairs beyond it are left out."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Measurements of both, taken one after the other. ``load``: the load average over a minute at its end."""

    ours: float
    reference: float
    load: float = 0.0

    @property
    def ratio(self) -> float:
        return self.ours / self.reference


@dataclass(frozen=True, slots=True)
class Point:
    """Measurement of both at one of several points, such as a window or a size."""

    at: str
    ours: float
    reference: float

    @property
    def ratio(self) -> float:
        return self.ours / self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Published result: a ratio with its range, and the measurements that it comes from.

    ``target`` is a ratio: at least, or at most, as ``wanted`` says. ``points``: the same comparison elsewhere.
    """

    name: str
    title: str
    unit: str
    reference: str
    included: str
    target: float
    wanted: Literal["at least", "at most"]
    pairs: Sequence[Pair]
    points: Sequence[Point] = ()
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> list[Pair]:
        """Return the pairs whose reference was steady."""
        return steady(self.pairs)

    @property
    def ratio(self) -> float:
        """Return the median of the ratios."""
        return median(pair.ratio for pair in self.kept)

    @property
    def reached(self) -> bool:
        """Return True when the target is reached."""
        return self.ratio >= self.target if self.wanted == "at least" else self.ratio <= self.target

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        ratios = [pair.ratio for pair in self.kept]
        fields = {key: value for key, value in asdict(self).items() if key not in ("pairs", "points")}
        return {
            **fields,
            "ratio": round(self.ratio, 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
            "reached": self.reached,
            "pairs": [
                {**asdict(pair), "ratio": round(pair.ratio, 3), "kept": pair in self.kept} for pair in self.pairs
            ],
            "points": [{**asdict(point), "ratio": round(point.ratio, 3)} for point in self.points],
        }


def steady(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs whose reference did not move."""
    middle = median_low(pair.reference for pair in pairs)
    return [pair for pair in pairs if abs(pair.reference / middle - 1) <= UNSTEADY]


def beside_bar(measured: Sequence[float], bar: float) -> list[Pair]:
    """Return pairs whose reference is a bar: an absolute figure that holds for one machine."""
    return [Pair(value, bar, _load()) for value in measured]


async def in_turns(count: int, ours: Measure, reference: Measure) -> list[Pair]:
    """Measure in the order ABBAABBA…, so that a drift favours neither side."""
    return [Pair(a, b, load) for (a, b), load in await in_rotation(count, [ours, reference])]


async def in_rotation(count: int, measures: Sequence[Callable[[], Awaitable[T]]]) -> list[tuple[Sequence[T], float]]:
    """Measure in the order ABCCBA…; return for each round what each has measured, and the load average at its end."""
    rounds: list[tuple[Sequence[T], float]] = []
    for n in range(count):
        places = list(range(len(measures)))
        order = places if n % 2 == 0 else places[::-1]
        found = {place: await measures[place]() for place in order}
        rounds.append(([found[place] for place in places], _load()))
    return rounds


def _load() -> float:
    return round(os.getloadavg()[0], 2)
