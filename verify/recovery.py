"""How long each fault was felt: until nobody waited too long any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from verify.history import InjectedFault

LATE_S = 2.0
"""A message that takes longer to the screen of a steady device was held up by something."""
CALM_S = 2.0
"""Everything flows again when for so long nobody waits too long."""

Delivery = tuple[float, float]
"""(when its first try began, when it was on a screen)."""


def set_recoveries(faults: Sequence[InjectedFault], deliveries: Sequence[Delivery]) -> None:
    """Set ``recovery_s`` of each blow: from its end (a kill ends at once) until it is calm.

    While others go on, or have just ended, it is not calm because of them: that is theirs.
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
