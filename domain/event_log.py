"""Port to the event log: its records as they are read, and their append."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from schemas.codec import Headers, Record


class PlacedRecord(Protocol):
    """A record of the log with its place."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class ConsumedRecord(PlacedRecord, Protocol):
    """A record of the log with its place and its headers."""

    @property
    def headers(self) -> Headers: ...


class LogReader(Protocol):
    """Reader of a part of the log, outside any group."""

    def read(self, offsets: Mapping[tuple[str, int], int]) -> AsyncIterator[Sequence[ConsumedRecord]]:
        """Yield the records of these (topic, partition), from the offset to the end as it is now, each in its order.

        Raises Unavailable.
        """


class EventLog(Protocol):
    """Event log, as a writer uses it."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Append the records, in this order for each key; return once all of them are durable (``acks=all``).

        Returns the ends of the log behind them: topic/partition → the offset that the next record gets.
        Raises Unavailable when it is unknown whether they are durable; appending them again may double them.
        """
