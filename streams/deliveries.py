"""Deliveries: the records of a fetch in chunks, and how far each chunk is. Pure.

An event costs Faust more than a record costs its stage. So one event carries a chunk: up to CHUNK records of one fetch
and partition, in their order. A chunk is acknowledged as a whole, once all of its records are finished, and after a
crash it comes again as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

CHUNK = 256
"""Records of a chunk at most."""


class Placed(Protocol):
    """A record that has an offset."""

    @property
    def offset(self) -> int: ...


P = TypeVar("P")
R = TypeVar("R")
Fetched = TypeVar("Fetched", bound=Placed)


@dataclass(slots=True, eq=False)
class Chunk:
    """State of the records of one delivery. It is of that delivery alone: the same records may come again in others."""

    last: int
    """Offset of the last record."""
    size: int
    finished: int = 0
    dropped: int = 0
    """Records that were left to the worker that has their partition now."""

    def settle(self, *, is_done: bool) -> None:
        """Count one more record that is finished, or else dropped."""
        if is_done:
            self.finished += 1
        else:
            self.dropped += 1

    @property
    def is_settled(self) -> bool:
        """True once no record is worked on, or waits for its turn."""
        return self.finished + self.dropped == self.size

    @property
    def is_done(self) -> bool:
        """True once all records are finished: then the chunk may be acknowledged."""
        return self.finished == self.size


def chunks(fetched: Mapping[P, Sequence[R]], size: int = CHUNK) -> Iterator[tuple[P, Sequence[R]]]:
    """Yield the records of a fetch in chunks: one of each partition, then the next of each."""
    longest = max(map(len, fetched.values()), default=0)
    for begin in range(0, longest, size):
        for place, records in fetched.items():
            if part := records[begin : begin + size]:
                yield place, part


def from_floor(records: Sequence[Fetched], floor: int | None) -> Sequence[Fetched]:
    """Return the records from an offset on: a fetch from before a seek may still bring lower ones."""
    if floor is None or not records or records[0].offset >= floor:
        return records
    return [record for record in records if record.offset >= floor]


def position_behind(ring: deque[Chunk]) -> int | None:
    """Take the chunks that are done off the front of a ring; return the position behind the last; None for none."""
    last: int | None = None
    while ring and ring[0].is_done:
        last = ring.popleft().last
    return None if last is None else last + 1
