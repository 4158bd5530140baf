"""Faults that excuse something for a while: a frame that nobody repeats, or an answer that comes later. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from verify.history import InjectedFault

WAKE_S = 30.0
"""Seconds after messages flow again in which a fault may still be felt."""
DELIVERING = frozenset({"gateway", "valkey"})
"""Roles that carry frames to sockets. Watermarks, notifications and hints that die with them are not sent again."""
RECEIVING = frozenset({"gateway", "kafka", "postgres", "ws", "haproxy"})
"""Roles that carry receipts to Kafka, and the store. What the status stage has not taken yet is waited for."""
MEMBERSHIPS = frozenset({"gateway", "valkey", "kafka", "postgres", "ingest", "ws", "haproxy"})
"""Roles that carry the end of a membership to sockets."""
OTHERS = frozenset({"status", "notification", "media", "search", "analytics", "audit", "http", "postgres-replica"})
ALL = DELIVERING | RECEIVING | MEMBERSHIPS | OTHERS


def is_disturbed(faults: Sequence[InjectedFault], roles: Collection[str], since: float, until: float) -> bool:
    """Return True when a fault of one of these roles, or of one that is not known here, was felt in this time."""
    return any(
        fault.began <= until and fault.felt_until + WAKE_S >= since and _breaks(fault, roles)
        for fault in faults
        if fault.took_effect
    )


def _breaks(fault: InjectedFault, roles: Collection[str]) -> bool:
    """Hostile users and foreign records break no role, and excuse nothing."""
    if fault.name.startswith(("hostile-", "poison-")):
        return False
    return not fault.targets or any(target in roles or target not in ALL for target in fault.targets)
