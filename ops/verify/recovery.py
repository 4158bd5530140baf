"""How long each fault was felt: by the last delivery that came late because of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ops.verify.evidence import Blow

LATE_S = 1.5
"""A message that takes longer to the screen of a steady device was held up by something."""

Delivery = tuple[float, float]
"""(when its first try began, when it was on a screen)."""


def note_recoveries(blows: Sequence[Blow], deliveries: Sequence[Delivery]) -> None:
    """Set ``recovery_s`` of each blow: from its end (a kill ends at once) to the last late delivery after it.

    A delivery counts for the blow that ended last before it; while another still goes on, it counts for none.
    """
    for sent, shown in deliveries:
        if shown - sent <= LATE_S or any(blow.began <= shown < blow.healed for blow in blows):
            continue
        ended = [blow for blow in blows if blow.healed <= shown]
        if ended:
            last = max(ended, key=lambda blow: blow.healed)
            last.recovery_s = max(last.recovery_s, shown - last.healed)
