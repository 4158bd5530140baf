"""Tracks: which messages are on their way to an edge, and when they reached it. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from verify.edges import Measurement

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Track(Generic[K]):
    """An edge of one conversation. A message is known there by a key, which its sender may learn after its arrival."""

    measurements: list[Measurement]
    """Of all conversations, in the order of their messages."""
    reached: dict[K, float] = field(default_factory=dict)
    waiting: dict[K, Measurement] = field(default_factory=dict)

    def begin(self, at: float) -> Measurement:
        """Add and return the measurement of a message that is about to be sent."""
        measurement = Measurement(at)
        self.measurements.append(measurement)
        return measurement

    def expect(self, key: K, measurement: Measurement) -> None:
        """End the measurement when this key arrives, or has arrived."""
        if key in self.reached:
            measurement.ended = self.reached[key]
        else:
            self.waiting[key] = measurement

    def reach(self, key: K, at: float) -> None:
        """Note that a key has arrived; only its first arrival counts."""
        if key in self.reached:
            return
        self.reached[key] = at
        if (measurement := self.waiting.pop(key, None)) is not None:
            measurement.ended = at


@dataclass(slots=True)
class Watermark(Track[int]):
    """An edge that seqs reach in their order."""

    seq: int = 0

    def reach_all(self, up_to: int, at: float) -> None:
        """Note that everything up to a seq has arrived."""
        for seq in range(self.seq + 1, up_to + 1):
            self.reach(seq, at)
        self.seq = max(self.seq, up_to)
