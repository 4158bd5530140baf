"""Faults that explain what would be a violation without them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from stack.topology import role
from verify.history import InjectedFault

AFTER_S = 20.0
"""Seconds after messages flow again in which a fault may still be felt by a call."""
ENDS_S = 120.0
"""The same for a process: a worker that is stuck notices it in a minute, and starts within another."""
CALLS = frozenset({"ingest", "postgres", "haproxy"})
"""Roles without which a call over HTTP cannot be answered."""
SOCKETS = CALLS | {"gateway", "valkey"}
SERVERS = frozenset({"postgres", "kafka", "valkey"})


def is_explained(
    faults: Sequence[InjectedFault], roles: Collection[str], began: float, ended: float, after_s: float = AFTER_S
) -> bool:
    """Return True when a fault of one of these roles was felt between two times."""
    return any(
        not fault.impossible
        and fault.began <= ended
        and began <= fault.felt_until + after_s
        and any(role(target) in roles for target in fault.targets)
        for fault in faults
    )


def is_undisturbed(faults: Sequence[InjectedFault], began: float, ended: float) -> bool:
    """Return True when no fault at all was felt between two times."""
    return not any(
        not fault.impossible and fault.began <= ended and began <= fault.felt_until + AFTER_S for fault in faults
    )
