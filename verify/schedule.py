"""Schedules of faults, which are drawn from a seed and so can be repeated. Pure."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from verify.faults import Fault, fault, kind_of

LEAST_S = 120.0
"""A run with random faults lasts so long at least; its schedule then holds ``BITES`` faults of ``KINDS`` kinds."""
BITES, KINDS = 5, 4
_EVERY_S = 12.0
_WARM_UP_S = 2.0
_BEFORE_END_S = 3.0
"""Seconds of the load in which a fault at its end is active."""
_MORE = 4


class Planned(NamedTuple):
    """A fault of a schedule; times are in seconds from the start of the load."""

    at_s: float
    fault: str
    lasts_s: float

    @property
    def ends_s(self) -> float:
        """Time at which the roles that it breaks are as before."""
        return self.at_s + self.lasts_s + _form(self.fault).recover_s


@cache
def _form(name: str) -> Fault:
    """Return a fault of this name, to look at and not to use. Raises KeyError."""
    return fault(name)


def draw(seed: int, seconds: float, among: Iterable[str]) -> list[Planned]:
    """Return a schedule of random faults that fill so many seconds, of as many kinds as there is room for.

    A role is never broken by two faults at once, nor before it has recovered: two of three brokers down would be more
    than the promise covers. Faults of different roles may overlap. All have recovered at the end, but those that are
    meant to outlast the load.
    """
    rng = random.Random(seed)
    plan: list[Planned] = []
    wanted = max(BITES, int(seconds / _EVERY_S))
    for name in islice(_endless(rng, sorted(among)), _MORE * wanted):
        planned = _place(rng, name, seconds, plan)
        if planned is not None:
            plan.append(planned)
        if len(plan) == wanted:
            break
    return sorted(plan)


def arrange(seed: int, names: Sequence[str], seconds: float) -> tuple[list[Planned], float]:
    """Return a schedule of each of ``names`` once, and its length: ``seconds``, or more where they need it.

    Raises KeyError for an unknown name.
    """
    needed = max((_WARM_UP_S + _form(name).lasts_s + _form(name).recover_s for name in names), default=0.0)
    seconds = max(seconds, needed)
    while True:
        rng = random.Random(seed)
        plan: list[Planned] = []
        for name in names:
            planned = _place(rng, name, seconds, plan)
            if planned is not None:
                plan.append(planned)
        if len(plan) == len(names):
            return sorted(plan), seconds
        seconds *= 1.1


def _endless(rng: random.Random, among: Sequence[str]) -> Iterator[str]:
    """Yield names, one kind after the other, so that few faults are of many kinds; each once before any is repeated."""
    while among:
        by_kind: defaultdict[str, list[str]] = defaultdict(list)
        for name in rng.sample(among, len(among)):
            by_kind[kind_of(name)].append(name)
        while by_kind:
            for kind in rng.sample(sorted(by_kind), len(by_kind)):
                yield by_kind[kind].pop()
                if not by_kind[kind]:
                    del by_kind[kind]


def _place(rng: random.Random, name: str, seconds: float, plan: Sequence[Planned]) -> Planned | None:
    """Return the fault at a random time among those at which it meets no other; None when there is none."""
    form = _form(name)
    span = form.lasts_s + form.recover_s
    taken = [(other.at_s - span, other.ends_s) for other in plan if _share_a_role(form, _form(other.fault))]
    latest = seconds - (_BEFORE_END_S if form.at_end else span)
    gaps = list(_gaps(latest if form.at_end else _WARM_UP_S, latest, sorted(taken)))
    if not gaps:
        return None
    at = rng.uniform(0, sum(end - begin for begin, end in gaps))
    for begin, end in gaps:
        if at <= end - begin:
            break
        at -= end - begin
    return Planned(begin + min(at, end - begin), name, form.lasts_s)


def _gaps(first: float, last: float, taken: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the parts of a stretch of time that are not taken."""
    for begin, end in taken:
        if first <= min(begin, last):
            yield first, min(begin, last)
        first = max(first, end)
    if first <= last:
        yield first, last


def _share_a_role(one: Fault, other: Fault) -> bool:
    return not set(one.targets).isdisjoint(other.targets)
