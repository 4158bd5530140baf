"""Recovery: from the injection of a fault to the last message that was late because of it, edge by edge. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from verify.edges import RULES, Edge, Measurement, Recovery, edges_of
from verify.history import History, InjectedFault
from verify.slowdown import IDLE, Slowdown
from verify.workload import DeviceKind


def measured(history: History) -> Mapping[Edge, Sequence[Measurement]]:
    """Return the measurements of the probe, and to screens also those of the load, on its steady devices."""
    load = [
        Measurement(sent[seq], at)
        for room in history.rooms
        for sent in [{s.accepted.seq: s.attempts[0].began for s in room.sendings if s.accepted}]
        for screen in room.screens
        if screen.spec.kind is DeviceKind.STEADY
        for seq, at in zip(screen.seqs, screen.times, strict=True)
        if seq in sent
    ]
    return {**history.measurements, Edge.DELIVERED: [*history.measurements[Edge.DELIVERED], *load]}


def set_recoveries(
    faults: Sequence[InjectedFault],
    measurements: Mapping[Edge, Sequence[Measurement]],
    until: float,
    slowdown: Slowdown = IDLE,
) -> None:
    """Set ``recoveries`` of each fault: the lateness on each edge that its role can hurt.

    ``until``: end of the observation. A fault that took no effect is charged with nothing, and excuses nothing. No
    other fault cuts a recovery short. When others that can hurt the same edge are not over in the same time, nobody can
    tell whose the lateness is: all are charged, and name each other. On a slow machine every fault has some more time.
    """
    faults = [injected for injected in faults if injected.took_effect]
    for edge, taken in measurements.items():
        late = _late(edge, taken, until)
        able = [
            _Window.of(injected, edge, late, until, slowdown)
            for injected in faults
            if edge in edges_of(injected.targets)
        ]
        for window in able:
            if window.chain:
                window.fault.recoveries[edge] = window.recovery([other for other in able if other is not window])


def calm(
    edge: Edge, taken: Sequence[Measurement], faults: Sequence[InjectedFault], until: float
) -> Iterator[Measurement]:
    """Yield the measurements that no fault of the edge has touched: neither during it, nor in its recovery."""
    rule = RULES[edge]
    spans = sorted(
        (
            injected.began,
            max(min(injected.healed, until), injected.began + _last_s(injected, edge)) + rule.calm_s,
        )
        for injected in faults
        if injected.took_effect and edge in edges_of(injected.targets)
    )
    for each in taken:
        ended = until if each.ended is None else each.ended
        if not any(began <= ended and each.began <= over for began, over in spans):
            yield each


def _last_s(injected: InjectedFault, edge: Edge) -> float:
    recovery = injected.recoveries.get(edge)
    return recovery.last_s if recovery is not None else 0.0


@dataclass(frozen=True, slots=True)
class _Late:
    """A message that was late, from its first attempt to its arrival."""

    began: float
    ended: float
    has_arrived: bool


def _late(edge: Edge, taken: Sequence[Measurement], until: float) -> list[_Late]:
    late_s = RULES[edge].late_s
    waits = ((each.began, until if each.ended is None else each.ended, each.ended is not None) for each in taken)
    return sorted((_Late(*wait) for wait in waits if wait[1] - wait[0] > late_s), key=lambda late: late.began)


@dataclass(frozen=True, slots=True)
class _Window:
    """A fault on an edge: its span, and the chain of lateness that touches the span or follows it closely."""

    fault: InjectedFault
    healed: float
    bound_s: float
    chain: Sequence[_Late]
    over: float

    @classmethod
    def of(
        cls, injected: InjectedFault, edge: Edge, late: Sequence[_Late], until: float, slowdown: Slowdown
    ) -> _Window:
        rule = RULES[edge]
        healed = min(injected.healed, until)
        over, chain = healed, list[_Late]()
        for each in late:
            if each.began > over + rule.calm_s:
                break
            if each.ended > injected.began:
                chain.append(each)
                over = max(over, each.ended)
        bound_s = (rule.recovery_s if injected.single else injected.recover_s) + slowdown.of_restart()
        return cls(injected, healed, bound_s, chain, over)

    def recovery(self, others: Sequence[_Window]) -> Recovery:
        """Return the recovery, given the other faults that can hurt the edge."""
        began, last = self.fault.began, max(each.ended for each in self.chain)
        beside = [other for other in others if other.fault.began <= self.over and other.over >= began]
        excused = [self, *beside]
        return Recovery(
            first_s=max(0.0, self.chain[0].began - began),
            last_s=last - began,
            after_end_s=max(0.0, last - self.healed),
            overdue_s=max(_overdue_s(each.ended, excused) for each in self.chain),
            overlaps=tuple(dict.fromkeys(other.fault.name for other in beside)),
            is_over=all(each.has_arrived for each in self.chain),
        )


def _overdue_s(ended: float, excused: Sequence[_Window]) -> float:
    """Return how long after the last of the bounds a message arrived; 0 when a fault excuses it."""
    begun = [window for window in excused if window.fault.began <= ended]
    return max(0.0, ended - max((window.healed + window.bound_s for window in begun), default=ended))
