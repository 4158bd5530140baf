"""Rules about times: lateness ends soon after a fault, nothing is slow without one, every message gets through (I14).

Times grow with the slowdown of the machine, and so do their bounds. Beyond what is bearable they are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verify.edges import RULES
from verify.final_state import FinalState
from verify.history import History
from verify.latencies import latencies
from verify.rules.violation import Violation

SAMPLE_MIN = 20
"""Messages without which quantiles say nothing."""


def recoveries_are_quick(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I14: after a fault, messages are in time again on every edge within its bound."""
    for fault in history.faults if history.slowdown.is_bearable else ():
        for edge, recovery in fault.recoveries.items():
            if recovery.overdue_s:
                text = f"{fault.name}: {edge} was late until {recovery.after_end_s:.1f} s after its end"
                yield Violation("I14", "slow", f"{text}, {recovery.overdue_s:.1f} s too long")


def latencies_are_short(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I14: without a fault, messages reach every edge within its bounds."""
    for edge, latency in latencies(history).items() if history.slowdown.is_bearable else ():
        rule, slowdown = RULES[edge], history.slowdown
        for name, taken, most in (
            ("the median", latency.median_s, rule.median_s * slowdown.mean),
            ("p99", latency.p99_s, rule.p99_s * slowdown.worst),
            ("the longest", latency.most_s, rule.recovery_s * slowdown.worst),
        ):
            if latency.count >= SAMPLE_MIN and taken > most:
                yield Violation("I14", "slow", f"{edge} without a fault: {name} is {taken:.2f} s, beyond {most:.2f} s")


def probes_get_through(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I14: in the end, every message of the probe has reached every edge."""
    for edge, taken in history.measurements.items():
        missing = sum(each.ended is None for each in taken)
        if missing:
            text = f"{edge}: {missing} of {len(taken)} messages of the probe have never got there"
            yield Violation("I14", "wrong", text, missing)
