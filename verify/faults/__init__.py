"""The registry of faults, and their schedules, which are drawn from a seed and so can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from schemas.topics import groups, load, stages
from verify.attacks import ATTACKS
from verify.faults.hostile import Hostile
from verify.faults.machine import FullDisk, StepClock
from verify.faults.network import Blackhole, Cut, CutAt, Refuse, Slow
from verify.faults.poison import Poison
from verify.faults.process import Kill, Pause, Terminate
from verify.faults.servers import CutSubscribers, FlushRedis, KillLeader, WipeBroker
from verify.faults.target import Fault, NotPossible, Process, Target, target_of

__all__ = ["FAULTS", "Fault", "NotPossible", "Planned", "Process", "Target", "fault", "schedule", "target_of"]

OURS = ("ingest", "gateway", *stages())
SERVERS = ("postgres", "kafka", "valkey")
_WARM_UP_S = 2.0
_EVERY_S = 15.0
_TRIES = 400


def _topics_read() -> list[str]:
    """Return the topics that a stage or the gateway reads."""
    return [topic.name for topic in load() if set(topic.readers) & set(groups())]


def _registry() -> dict[str, Callable[[], Fault]]:
    made: list[Callable[[], Fault]] = [
        *(partial(kind, target) for kind in (Kill, Pause) for target in (*OURS, *SERVERS)),
        *(partial(Terminate, target) for target in OURS),
        *(partial(kind, server) for kind in (Blackhole, Cut, Slow, Refuse) for server in SERVERS),
        partial(CutAt, "postgres"),
        WipeBroker,
        KillLeader,
        FlushRedis,
        CutSubscribers,
        FullDisk,
        partial(StepClock, "gateway", 600),
        partial(StepClock, "ingest", -600),
        *(partial(Poison, topic) for topic in _topics_read()),
        *(partial(Hostile, attack) for attack in ATTACKS),
    ]
    return {make().name: make for make in made}


FAULTS: Mapping[str, Callable[[], Fault]] = _registry()


def fault(name: str) -> Fault:
    """Return a new fault of this name. Raises KeyError."""
    return FAULTS[name]()


class Planned(NamedTuple):
    """A fault of a schedule; times are in seconds from the start of the load."""

    at_s: float
    fault: str
    lasts_s: float


def schedule(seed: int, names: Sequence[str] | None, seconds: float, *, among: Iterable[str] = FAULTS) -> list[Planned]:
    """Return a schedule with each of ``names`` once, or, without names, as many of ``among`` as fit into ``seconds``.

    A role is never broken by two faults at once, nor before it has recovered: two of three brokers down would be more
    than the promise covers. All have recovered at the end. Pure. Raises ValueError when the names do not fit, KeyError
    for an unknown one.
    """
    rng = random.Random(seed)
    plan: list[Planned] = []
    wanted = names if names is not None else _drawn(rng, sorted(among), seconds)
    for name in wanted:
        planned = _placed(rng, FAULTS[name](), seconds, plan)
        if planned is not None:
            plan.append(planned)
        elif names is not None:
            raise ValueError(f"{name} does not fit into {seconds:.0f} s beside the others; give more time")
    return sorted(plan)


def _drawn(rng: random.Random, among: Sequence[str], seconds: float) -> list[str]:
    count = max(1, int(seconds / _EVERY_S))
    return [name for _ in range(-(-count // len(among))) for name in rng.sample(among, len(among))][:count]


def _placed(rng: random.Random, wanted: Fault, seconds: float, plan: Sequence[Planned]) -> Planned | None:
    latest = seconds - wanted.lasts_s - wanted.recover_s
    if latest < _WARM_UP_S:
        return None
    for _ in range(_TRIES):
        planned = Planned(round(rng.uniform(_WARM_UP_S, latest), 1), wanted.name, wanted.lasts_s)
        if not any(_collide(planned, other) for other in plan):
            return planned
    return None


def _collide(one: Planned, other: Planned) -> bool:
    first, second = FAULTS[one.fault](), FAULTS[other.fault]()
    if not set(first.targets) & set(second.targets):
        return False
    ends_one, ends_other = (
        one.at_s + one.lasts_s + first.recover_s,
        other.at_s + other.lasts_s + second.recover_s,
    )
    return one.at_s < ends_other and other.at_s < ends_one
