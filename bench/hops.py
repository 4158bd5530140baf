"""Hops of a message through the pipeline, from the files that ``bench.traced`` writes. Pure, but for ``forget``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ORDER = (
    "handler",
    "batch",
    "stored",
    "answered",
    "produced",
    "event",
    "handled",
    "marked",
    "completed",
    "dispatcher",
    "written",
)
"""Points that a message passes, in the order of the pipeline. Nothing waits for ``answered``."""
_FEW = 2


@dataclass(frozen=True, slots=True)
class Hop:
    """Delay from one point to the next that was traced, and since the first, over all messages."""

    name: str
    after: str
    median_ms: float
    p90_ms: float
    since_start_ms: float


def parse(lines: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return message id → point → the first time (ns) at which the message was there."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line in lines:
        at, point, id_ = line.split(" ")
        earlier = found[id_].get(point)
        found[id_][point] = int(at) if earlier is None else min(int(at), earlier)
    return dict(found)


def between(lines: Iterable[str]) -> list[Hop]:
    """Return the hops of the messages that have passed all points which any has passed."""
    messages = [points for points in parse(lines).values() if ORDER[0] in points]
    there = [point for point in ORDER if any(point in points for points in messages)]
    whole = [points for points in messages if all(point in points for point in there)]
    if len(whole) < _FEW:
        return []
    return [_hop(whole, there, n) for n in range(1, len(there))]


def _hop(messages: Sequence[Mapping[str, int]], there: Sequence[str], n: int) -> Hop:
    point = there[n]
    # What follows the answer did not wait for it.
    after = there[n - 2] if there[n - 1] == "answered" and n > 1 else there[n - 1]
    delays = [(points[point] - points[after]) / 1e6 for points in messages]
    since = [(points[point] - points[there[0]]) / 1e6 for points in messages]
    return Hop(point, after, median(delays), quantiles(delays, n=10)[-1], median(since))


def table(found: Sequence[Hop]) -> str:
    """Return the hops as lines of a terminal, and the points that are missing."""
    lines = [f"{'from':12} {'to':12} {'median ms':>10} {'p90':>8} {'since start':>12}"]
    lines += [f"{h.after:12} {h.name:12} {h.median_ms:10.2f} {h.p90_ms:8.2f} {h.since_start_ms:12.2f}" for h in found]
    missing = [point for point in ORDER[1:] if point not in {hop.name for hop in found}]
    return "\n".join([*lines, *([f"not traced: {', '.join(missing)}"] if missing else [])])


def forget(folder: Path) -> None:
    """Empty the files, for example of what came before the measurement."""
    for file in folder.glob("*.trace"):
        file.write_bytes(b"")  # they are written at their end, wherever that is
