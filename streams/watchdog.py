"""Detection of a stuck worker: records are pending and none finishes for some time, or it stays outside its group; or a
partition stands still, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Behind:
    """A partition's committed position, and the number of records from there on."""

    position: int
    records: int
    begun: int = 0
    """Records of the chunk there that are finished: it may take long, and is committed as a whole."""


@dataclass(slots=True)
class Watchdog:
    """Counts of the worker. The clock of ``is_stuck`` starts when work begins to be pending."""

    clock: Callable[[], float] = time.monotonic
    unfinished: int = 0
    """Records that were delivered and are not finished."""
    lag: int | None = 0
    """Records in Kafka that are not committed, when last read. None counts as some: a client may know no way to a
    broker that everybody else reaches."""
    is_assigned: bool = True
    """True while the worker is in its group, and the group at rest."""
    _since: float = field(init=False)
    _standing: dict[str, tuple[tuple[int, int], float]] = field(default_factory=dict)
    """Partition → its progress while records are pending in it, and since when."""

    def __post_init__(self) -> None:
        self._since = self.clock()

    @property
    def is_pending(self) -> bool:
        """True while there is work, or partitions to get."""
        return self.unfinished > 0 or self.lag != 0 or not self.is_assigned

    def delivered(self, count: int) -> None:
        """Count records that came."""
        self._start_clock()
        self.unfinished += count

    def finished(self, count: int) -> None:
        """Count records that were acknowledged."""
        self.unfinished -= count
        self._since = self.clock()

    def progressed(self) -> None:
        """Note that a part of the work is done: one batch may take longer than the time after which we are stuck."""
        self._since = self.clock()

    def dropped(self, count: int) -> None:
        """Count records that were left to the worker that has their partitions now: that is no progress."""
        self.unfinished -= count

    def observe_lag(self, behind: Mapping[str, Behind] | None) -> None:
        """Note the partitions that lag; None when the broker does not answer."""
        self._start_clock()
        self.lag = None if behind is None else sum(each.records for each in behind.values())
        if behind is not None:
            before, now = self._standing, self.clock()
            progress = {name: (each.position, each.begun) for name, each in behind.items()}
            self._standing = {
                name: before[name] if name in before and before[name][0] == reached else (reached, now)
                for name, reached in progress.items()
            }

    def observe_group(self, *, is_assigned: bool) -> None:
        """Note whether the worker is in its group, and the group is not being rebalanced."""
        if not is_assigned:
            self._start_clock()
        self.is_assigned = is_assigned

    def _start_clock(self) -> None:
        if not self.is_pending:
            self._since = self.clock()

    def standing(self, seconds: float) -> str | None:
        """Return a partition that has got no further for so long, though records are pending in it."""
        now = self.clock()
        return next((name for name, (_, since) in self._standing.items() if now - since > seconds), None)

    def is_stuck(self, seconds: float) -> bool:
        """Return whether work is pending and none was finished for so long."""
        return self.is_pending and self.clock() - self._since > seconds
