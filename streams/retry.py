"""Retries: transient trouble is waited out for a bounded time, as long as the records are ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from domain.errors import MillraceError, Unavailable

T = TypeVar("T")
_log = structlog.get_logger()


class RetriesExhausted(MillraceError):
    """Trouble lasted too long: the process must end without committing."""


class PartitionRevoked(MillraceError):
    """The partition went elsewhere: another worker has its records now."""


class NotWanted(MillraceError):
    """An operator lets the stage step over one of the records: the others are handled without it."""


class TurnEnded(MillraceError):
    """The work takes longer than a turn: it has got on, and goes on at the next call. Nothing is wrong.

    Others may have their turns before that call.
    """


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of retries, in seconds.

    ``attempt_s`` stays below half of the group's rebalance time-out, for which the consumer waits for work under way;
    between attempts ``still_assigned`` is called, so a long outage holds up no rebalance.
    """

    total_s: float = 40.0
    attempt_s: float = 10.0
    first_s: float = 0.1
    most_s: float = 5.0
    still_assigned: Callable[[], bool] = lambda: True
    still_wanted: Callable[[], bool] = lambda: True
    retried: Callable[[], None] = lambda: None
    progressed: Callable[[], None] = lambda: None
    """Called when a part of the work is done that need not be acknowledged yet."""

    async def call(self, work: Callable[[], Awaitable[T]], attempt_s: float | None = None) -> T:
        """Return what ``work`` returns, trying until it does.

        Raises RetriesExhausted after ``total_s``, PartitionRevoked when the records are not ours any more.
        """
        clock = asyncio.get_running_loop().time
        began, wait, causes = clock(), self.first_s, set[str]()
        while True:
            try:
                result = await self.attempt(work, attempt_s)
            except Unavailable as exc:
                if clock() + wait > began + self.total_s:
                    raise RetriesExhausted(f"trouble lasted over {self.total_s:.0f} s: {exc}") from exc
                # The first of each cause is for the operator, who sees a stage stand still.
                log = _log.debug if str(exc) in causes else _log.warning
                causes.add(str(exc))
                log("attempt_failed", wait_s=round(wait, 2), reason=str(exc), driver=exc.driver)
            else:
                if causes:
                    _log.warning("attempt_succeeded", after_s=round(clock() - began, 1))
                return result
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, self.most_s)

    async def attempt(self, work: Callable[[], Awaitable[T]], attempt_s: float | None = None) -> T:
        """Return what ``work`` returns at the first try.

        Raises Unavailable, also when it takes too long, PartitionRevoked when the records are not ours any more, and
        NotWanted when one of them shall be stepped over.
        """
        if not self.still_assigned():
            raise PartitionRevoked("the partition went elsewhere")
        if not self.still_wanted():
            raise NotWanted("an operator lets the stage step over a record")
        try:
            async with asyncio.timeout(attempt_s or self.attempt_s):
                return await work()
        except (Unavailable, TimeoutError) as exc:
            self.retried()
            raise Unavailable(str(exc) or "it took too long", getattr(exc, "driver", "")) from exc
