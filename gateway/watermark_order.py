"""Order of watermarks on the sockets of a node: none goes back, whichever node published it, and when.

A dispatcher publishes watermarks as the store has them, so each is at least as high as those before it. The exceptions
are few: a dispatcher that was frozen, or had lost its partitions, between reading the store and publishing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.channels import Envelope

KEPT_S = 30.0
KEPT_MAX = 20_000
"""Watermarks of a generation; two of them are some 10 MB at most."""

Key: TypeAlias = tuple[str, str]
"""(recipient, subject)."""


@dataclass(slots=True)
class WatermarkOrder:
    """The last watermark of each member that each user was sent, for 30 to 60 s: two generations, forgotten whole."""

    _young: dict[Key, int] = field(default_factory=dict)
    _old: dict[Key, int] = field(default_factory=dict)
    _began: float = float("-inf")

    def passes(self, user_id: str, envelope: Envelope, now: float) -> bool:
        """Return whether a watermark goes at least as far as the last that the user was sent (``now``: seconds)."""
        if now - self._began > KEPT_S or len(self._young) >= KEPT_MAX:
            self._old = self._young if now - self._began <= 2 * KEPT_S else {}
            self._young, self._began = {}, now
        key = user_id, envelope.about
        last = self._young.get(key, self._old.get(key, 0))
        self._young[key] = max(last, envelope.seq)
        return envelope.seq >= last
