"""Budgets of the caller."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from domain.rates import Budgets, Rates, Standing
from ingest.http.routing import Answer, Call, Endpoints
from schemas.answers import Budget, BudgetList


@dataclass(frozen=True, slots=True)
class LimitEndpoints:
    """The call that tells what is left of each budget."""

    rates: Rates
    budgets: Budgets

    def endpoints(self) -> Endpoints:
        return {"getLimits": self.get}

    async def get(self, call: Call[None, None]) -> Answer[BudgetList]:
        """Return all budgets of the caller; reading them takes from that of requests."""
        limits = {action: self.budgets.of(call.user, action) for action in self.budgets.limits}
        looks = (self.rates.look(action, call.user, limit) for action, limit in limits.items())
        return Answer(BudgetList(limits=tuple(map(_budget, await asyncio.gather(*looks)))))


def _budget(standing: Standing) -> Budget:
    limit = standing.limit
    if limit.is_off:
        return Budget(action=standing.action, limit=None, per_minute=None, remaining=None, reset_seconds=0)
    return Budget(
        action=standing.action,
        limit=int(limit.burst),
        per_minute=round(limit.per_s * 60, 3),
        remaining=int(standing.remaining),
        reset_seconds=math.ceil(standing.reset_s),
    )
