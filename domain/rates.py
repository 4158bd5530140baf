"""Budgets of users by action: token buckets, and one node's share of a bucket that all nodes have in common. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from schemas.fields import Action

EVERYBODY = "*"
_NEVER = -math.inf


@dataclass(frozen=True, slots=True)
class Limit:
    """``per_s`` tokens come back each second, up to ``burst``. A rate of 0 means no limit."""

    per_s: float
    burst: float

    @classmethod
    def per_minute(cls, rate: float, burst: float) -> Limit:
        """Return the limit of so many a minute, of which at most a minute's worth may come at once."""
        return cls(rate / 60, max(1.0, min(burst, rate)))

    @property
    def is_off(self) -> bool:
        """Return whether anything may pass."""
        return self.per_s <= 0

    @property
    def window_s(self) -> float:
        """Return the seconds in which an empty bucket becomes full."""
        return 0.0 if self.is_off else self.burst / self.per_s

    def needed(self, cost: float) -> float:
        """Return the tokens that must be there for a call; of one that costs more than the burst, half the burst."""
        return cost if cost <= self.burst else self.burst / 2

    def times(self, factor: float) -> Limit:
        """Return the limit raised or lowered; a factor of 0 turns it off."""
        return Limit(self.per_s * factor, self.burst * factor)


UNLIMITED = Limit(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """A user's budget for an action at a moment. ``wait_s``: until the call may pass; 0 when it has passed."""

    action: Action
    limit: Limit
    remaining: float
    wait_s: float = 0.0

    @property
    def reset_s(self) -> float:
        """Return the seconds until the whole budget is there again, if nothing is taken meanwhile."""
        return 0.0 if self.limit.is_off else max(0.0, self.limit.burst - self.remaining) / self.limit.per_s


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits by action. ``factors`` raises those of single users; ``*`` stands for all users that it does not name."""

    limits: Mapping[Action, Limit]
    factors: Mapping[str, float] = field(default_factory=dict)

    def of(self, user_id: str, action: Action) -> Limit:
        """Return the limit of a user."""
        return self.limits[action].times(self.factors.get(user_id, self.factors.get(EVERYBODY, 1.0)))


class Rates(Protocol):
    """Token buckets by user and action, which all nodes have in common. They hold also while their store is away."""

    async def take(self, action: Action, user_id: str, limit: Limit, cost: float = 1.0) -> Standing:
        """Take tokens, or none and tell how long to wait. Raises nothing."""

    async def look(self, action: Action, user_id: str, limit: Limit) -> Standing:
        """Return the budget without taking any. Raises nothing."""


@dataclass(slots=True)
class Bucket:
    """Token bucket, at first full. While it is half full, it serves also a call that costs more than it can hold, and
    then owes.
    """

    limit: Limit
    credit: float = math.inf
    at: float = _NEVER

    def refill(self, now: float) -> float:
        """Return the tokens that are there. A clock that goes back gives none."""
        since = max(0.0, now - self.at) if self.at != _NEVER else self.limit.window_s
        self.credit = min(self.limit.burst, self.credit + since * self.limit.per_s)
        self.at = now
        return self.credit

    def take(self, cost: float, now: float) -> bool:
        """Take tokens; return False, and take none, when there are too few."""
        if self.limit.is_off:
            return True
        if self.refill(now) < self.limit.needed(cost):
            return False
        self.credit -= cost
        return True

    def wait_s(self, cost: float, now: float) -> float:
        """Return the seconds until a call of this cost may pass."""
        if self.limit.is_off:
            return 0.0
        return max(0.0, self.limit.needed(cost) - self.refill(now)) / self.limit.per_s

    def lower(self, credit: float, now: float) -> None:
        """Leave at most so many tokens, and no fewer than none."""
        self.credit = min(self.refill(now), max(0.0, credit))

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is like a new one."""
        return self.refill(now) >= self.limit.burst


@dataclass(slots=True)
class Share:
    """One node's share of a bucket that all nodes have in common.

    The node gives from the tokens that the common bucket has leased to it. ``alone`` is what it may give without the
    common bucket, of a limit divided by the nodes: what the node gives is taken from it too, and whatever the common
    bucket tells lowers it, so that no token is given again when the common bucket goes away.
    """

    limit: Limit
    nodes: int = 1
    held: float = 0.0
    held_until: float = _NEVER
    unreported: float = 0.0
    """Tokens given alone that the common bucket does not know of; below 0 for leased ones that go back to it."""
    common: Bucket = field(init=False)
    alone: Bucket = field(init=False)
    _is_heard: bool = False

    def __post_init__(self) -> None:
        self.common = Bucket(self.limit)
        self.alone = Bucket(self.limit.times(1 / self.nodes))

    def among(self, nodes: int, now: float) -> None:
        """Note how many nodes share the bucket."""
        if nodes != self.nodes:
            self.alone.refill(now)
            self.alone.credit *= self.nodes / nodes
            self.alone.limit = self.limit.times(1 / nodes)
            self.nodes = nodes

    def unused(self, now: float) -> float:
        """Return the leased tokens that are not given yet."""
        return self.held if now < self.held_until else 0.0

    def to_report(self, now: float) -> float:
        """Return the tokens to be taken from the common bucket: those given alone that have not come back since."""
        self.unreported = min(self.unreported, self.alone.limit.burst - self.alone.refill(now))
        return self.unreported

    def lease(self, granted: float, credit: float, until: float, now: float, reported: float = 0.0) -> None:
        """Add tokens that the common bucket has granted; ``credit`` is what is left there.

        They first pay for tokens that were given alone while the answer was awaited.
        """
        self.unreported -= reported
        held = self.unused(now) + granted
        paid = min(held, max(0.0, self.unreported))
        self.unreported -= paid
        self.held, self.held_until = held - paid, until
        self.common.credit, self.common.at, self._is_heard = credit, now, True
        self.alone.lower(credit / self.nodes, now)

    def give_back(self, now: float) -> None:
        """Keep nothing of the lease: nobody has waited for it."""
        self.unreported -= self.unused(now)
        self.held = 0.0

    def take(self, cost: float, now: float) -> bool:
        """Give tokens of the lease; return False when they are too few."""
        if self.unused(now) < cost:
            return False
        self.held -= cost
        self.alone.lower(self.alone.refill(now) - cost, now)
        return True

    def is_empty(self, cost: float, now: float) -> bool:
        """Return whether the common bucket has told that it holds too few tokens until now, with those leased."""
        return self._is_heard and self.wait_s(cost, now) > 0

    def wait_s(self, cost: float, now: float) -> float:
        """Return the seconds until the tokens leased and those of the common bucket are enough."""
        there = self.unused(now) + self.common.refill(now)
        return max(0.0, self.limit.needed(cost) - there) / self.limit.per_s

    def take_alone(self, cost: float, now: float) -> bool:
        """Give tokens while the common bucket is away; return False when they are too few."""
        is_taken = self.alone.take(cost, now)
        self.unreported += cost * is_taken
        return is_taken

    def remaining(self, now: float) -> float:
        """Return the tokens that the user may still take here, as far as known."""
        common = self.common.refill(now) if self._is_heard else self.limit.burst
        return min(self.limit.burst, self.unused(now) + max(0.0, common))

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is lost when the share is forgotten."""
        return not self.unused(now) and not self.unreported and self.alone.is_full(now) and self.common.is_full(now)
