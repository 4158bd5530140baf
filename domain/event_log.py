"""The event log, as a writer sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.codec import Record


class EventLog(Protocol):
    """Kafka, as a writer sees it."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Return once all records are durable (``acks=all``), in this order for each key.

        Returns where the log ends behind them: topic/partition → the offset that the next record gets.
        Raises Unavailable when it is unknown whether they are; appending again may double them.
        """
