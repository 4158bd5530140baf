"""Recovery times: how long after a fault messages still took too long. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from verify.history import InjectedFault

LATE_S = 2.0
"""A message that takes longer to the screen of a steady device is late."""
CALM_S = 2.0
"""A fault is over when no message is late for this long."""

Delivery = tuple[float, float]
"""(time of the first attempt, time on a screen)."""


def set_recoveries(faults: Sequence[InjectedFault], deliveries: Sequence[Delivery]) -> None:
    """Set ``recovery_s`` of each fault: from its end (a kill ends at once) until no message is late.

    Late messages while another fault lasts, or has just ended, count for that one.
    """
    faults = [injected for injected in faults if not injected.impossible]
    waits = sorted((sent + LATE_S, shown) for sent, shown in deliveries if shown - sent > LATE_S)
    for injected in faults:
        until = injected.healed
        for began, ended in waits:
            if began > until + CALM_S:
                break
            until = max(until, ended)
        others = [
            other
            for other in faults
            if other is not injected and other.began <= until and other.healed > injected.healed
        ]
        until = min([until, *(max(injected.healed, other.began) for other in others)])
        injected.recovery_s = until - injected.healed
