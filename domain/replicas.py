"""Rules of reading from a replica: when it is fresh enough, when it is tried at all, and how far it lags. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

LOOK_S = 1.0
"""Seconds between looks at the replica; a read that finds it wanting shuts the gate until the next one."""
_LONGEST_PAUSE_S = 8.0
_SAMPLES = 3600


@dataclass(frozen=True, slots=True)
class Position:
    """Place in the log of one PostgreSQL, in bytes (LSN), and what tells this log from others.

    These are the system identifier, the timeline, and the last epoch of the store: a database that was put back without
    a recovery has only an epoch of its own.
    """

    system: int
    timeline: int
    epoch: str | None
    lsn: int

    def is_of_the_log_of(self, other: Position) -> bool:
        """Return True when both are in the same log."""
        return (self.system, self.timeline, self.epoch) == (other.system, other.timeline, other.epoch)


@dataclass(frozen=True, slots=True)
class Replayed:
    """State of a replica: how far it has replayed the log, and what speaks against reading from it at all."""

    position: Position
    is_standby: bool = True
    is_direct: bool = True
    """False when a pooler stands before it, which may lead each statement to another server."""


class Doubt(StrEnum):
    """Reason for which the primary answers a read in place of the replica."""

    AWAY = "away"
    SLOW = "slow"
    LAGGING = "lagging"
    PROMOTED = "promoted"
    OTHER_HISTORY = "other_history"
    POOLED = "pooled"
    CONFLICT = "conflict"
    NO_POSITION = "no_position"


IN_WORDS = {
    Doubt.AWAY: "does not answer",
    Doubt.SLOW: "answers too slowly",
    Doubt.LAGGING: "lags behind the primary",
    Doubt.PROMOTED: "is no standby: it was promoted, or never followed",
    Doubt.OTHER_HISTORY: (
        "does not follow this primary: its system identifier, timeline or epoch differs, or it is ahead"
    ),
    Doubt.POOLED: "is behind a pooler of transactions: MILLRACE_PG__REPLICA_DSN must lead to the server itself",
    Doubt.NO_POSITION: "cannot be compared, since the primary does not say where its log ends",
}
_FOR_ONE_READ = frozenset({Doubt.CONFLICT})


def doubt(needed: Position, found: Replayed) -> Doubt | None:
    """Return why a replica in this state must not answer a read; None when it has all that was visible at ``needed``.

    A commit is visible on the primary only after its log is flushed, and on a replica as soon as that is replayed. So
    a replica that has replayed what the primary had flushed after the read was asked for has everything that the
    caller can have seen, by whichever way, and everything that the caller has written.
    """
    if not found.is_standby:
        return Doubt.PROMOTED
    if not found.is_direct:
        return Doubt.POOLED
    if found.position.lsn < needed.lsn:
        return Doubt.LAGGING
    return None if found.position.is_of_the_log_of(needed) else Doubt.OTHER_HISTORY


def is_ahead(found: Replayed, afterwards: Position) -> bool:
    """Return True when the replica had replayed more than the primary has flushed: it followed another history.

    ``afterwards`` is the primary's position, read after the replica's.
    """
    return found.position.lsn > afterwards.lsn


@dataclass(slots=True)
class Gate:
    """Says whether reads try the replica. It opens by a look alone, and shuts by a look or by a read that failed.

    So an absent replica costs no read anything: looks find out that it is back, at growing pauses.
    """

    reason: Doubt | None = Doubt.AWAY
    since: float = 0.0
    """Time at which it opened or shut last."""
    _failures: int = 0

    @property
    def is_open(self) -> bool:
        """Return True while reads may try the replica."""
        return self.reason is None

    def looked(self, found: Doubt | None, now: float) -> bool:
        """Note the outcome of a look; return True when the gate has opened, or shut for another reason."""
        self._failures = 0 if found in {None, Doubt.LAGGING} else self._failures + 1
        return self._turn(found, now)

    def failed(self, found: Doubt, now: float) -> bool:
        """Note that a read failed on the replica; return True when it shuts the gate."""
        if found in _FOR_ONE_READ or not self.is_open:
            return False
        return self._turn(found, now)

    def pause_s(self) -> float:
        """Return the seconds until the next look."""
        return float(min(LOOK_S * 2 ** max(0, self._failures - 1), _LONGEST_PAUSE_S))

    def shut_s(self, now: float) -> float:
        """Return for how many seconds the gate has been shut; 0 while it is open."""
        return 0.0 if self.is_open else now - self.since

    def _turn(self, found: Doubt | None, now: float) -> bool:
        if found is self.reason:
            return False
        if self.is_open or found is None:
            self.since = now
        self.reason = found
        return True


@dataclass(slots=True)
class LagMeter:
    """Measures the lag of a replica in seconds by one clock, that of the process which looks.

    It remembers where the primary's log ended at each look. The replica lags by the age of the first of these places
    that it has not reached.
    """

    _ahead: deque[tuple[float, int]] = field(default_factory=deque)

    def seconds(self, primary_lsn: int, replayed_lsn: int, now: float) -> float:
        """Return the lag, given a look at both."""
        if len(self._ahead) < _SAMPLES:
            self._ahead.append((now, primary_lsn))
        while self._ahead and self._ahead[0][1] <= replayed_lsn:
            self._ahead.popleft()
        return now - self._ahead[0][0] if self._ahead else 0.0
