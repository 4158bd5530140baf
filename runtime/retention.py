"""Deletion of what has outlived its time, in the background: a few rows at a time, one table after the other."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from pydantic import AfterValidator, BaseModel, Field

from domain.errors import Unavailable
from domain.retention import DAY_S, HOUR_S, Kept, Prune, Rule
from runtime.setting import setting

_log = structlog.get_logger()

ROWS = 5_000
"""Rows of a step."""
PAUSE_S = 0.5
"""Seconds between two steps: others come first."""
_Days = Annotated[int, Field(ge=0)]


def _checked(days: int) -> int:
    """Return the days, when no record in a topic outlives its row. Raises ValueError."""
    if 0 < days < _TOPIC_D:
        raise ValueError(f"must be 0 or at least {_TOPIC_D} days, for as long as the topic keeps its records")
    return days


def _checked_trail(days: int) -> int:
    """Return the days, when they are as many as the database insists on. Raises ValueError."""
    if 0 < days < _TRAIL_D:
        raise ValueError(f"must be 0 or at least {_TRAIL_D} days")
    return days


_TOPIC_D = 8
_TRAIL_D = 30
_DaysOfTopic = Annotated[_Days, AfterValidator(_checked)]


class Retention(BaseModel):
    """Time for which rows are kept in PostgreSQL, beside the messages, which stay; 0 keeps them for good."""

    published_events_h: Annotated[int, Field(ge=1)] = setting(
        48,
        "Events that were published, to fill a broker again that lost its data, and for `topics republish`. The same"
        " for ingests, the audit and commands.",
        "h",
    )
    seen_notifications_d: _DaysOfTopic = setting(
        30, "Notifications that were seen; at least 8, as their topic keeps 7.", "d"
    )
    unseen_notifications_d: _DaysOfTopic = setting(90, "Notifications that were not; at least 8.", "d")
    analytics_minutes_d: _Days = setting(
        90, "Counts of messages by minute. The same for `analytics`, the audit and commands.", "d"
    )
    silent_devices_d: _Days = setting(
        90, "Watermarks of a device that reads nothing any more; those of its member stay.", "d"
    )
    operator_actions_d: Annotated[_Days, AfterValidator(_checked_trail)] = setting(
        730, "Actions of operators; at least 30, which the database sees to.", "d"
    )

    def kept(self) -> Kept:
        """Return the same in seconds."""
        return Kept(
            published_events_s=self.published_events_h * HOUR_S,
            seen_notifications_s=self.seen_notifications_d * DAY_S,
            unseen_notifications_s=self.unseen_notifications_d * DAY_S,
            analytics_minutes_s=self.analytics_minutes_d * DAY_S,
            silent_devices_s=self.silent_devices_d * DAY_S,
            operator_actions_s=self.operator_actions_d * DAY_S,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Pruning:
    """Carries out the rules of a process. Any number of processes may carry out the same rule."""

    prune: Prune
    rules: Sequence[Rule]
    rows: int = ROWS
    clock: Callable[[], float] = _now
    _due: dict[str, float] = field(default_factory=dict)
    _after: dict[str, str | None] = field(default_factory=dict)

    async def run(self) -> None:
        """Prune for ever; wait while the store is out."""
        while self.rules:
            waiting_s = await self.turn()
            await asyncio.sleep(max(PAUSE_S, waiting_s) * random.uniform(0.8, 1.2))

    async def turn(self) -> float:
        """Take one step of each rule that is due; return the seconds until the next rule is due."""
        for rule in self.rules:
            if self.clock() >= self._due.get(rule.table, -math.inf):
                await self._step(rule)
        return max(0.0, min(self._due.get(rule.table, -math.inf) for rule in self.rules) - self.clock())

    async def _step(self, rule: Rule) -> None:
        try:
            step = await self.prune(rule, self._after.get(rule.table), self.rows)
        except Unavailable as exc:
            _log.warning("pruning_waits", table=rule.table, reason=str(exc), driver=exc.driver)
            self._due[rule.table] = self.clock() + rule.every_s
            return
        if step.rows:
            _log.debug("rows_pruned", table=rule.table, rows=step.rows)
        self._after[rule.table] = step.after
        if step.after is None:
            self._due[rule.table] = self.clock() + rule.every_s
