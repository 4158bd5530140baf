"""Whether a worker gets on: it may idle for ever, but neither owe work and finish none, nor stay out of its group."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Fed by the worker, asked by its watch. The clock of ``stuck`` starts when work begins to be owed."""

    clock: Callable[[], float] = time.monotonic
    waiting: int = 0
    """Records that were taken and are not finished."""
    lag: int | None = 0
    """Records in Kafka that are not committed, when last asked. None counts as some: a client may know no way to a
    broker that everybody else reaches."""
    settled: bool = True
    """Whether the group has come to rest around us."""
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    @property
    def owes(self) -> bool:
        """Whether there is work, or partitions to get."""
        return self.waiting > 0 or self.lag != 0 or not self.settled

    def took(self) -> None:
        """A record came."""
        self._begin()
        self.waiting += 1

    def finished(self, count: int) -> None:
        """Records were acknowledged."""
        self.waiting -= count
        self._since = self.clock()

    def dropped(self, count: int) -> None:
        """Records were left to whoever has their partitions now: that is no progress."""
        self.waiting -= count

    def lags(self, records: int | None) -> None:
        """The broker was asked; None: it did not say."""
        self._begin()
        self.lag = records

    def settles(self, settled: bool) -> None:
        """Whether we are in the group, and it is not being rebalanced."""
        if not settled:
            self._begin()
        self.settled = settled

    def _begin(self) -> None:
        if not self.owes:
            self._since = self.clock()

    def stuck(self, seconds: float) -> bool:
        """Whether work is owed and none was finished for so long."""
        return self.owes and self.clock() - self._since > seconds
