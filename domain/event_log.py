"""Port to the event log, for writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.codec import Record


class EventLog(Protocol):
    """Event log, as a writer uses it."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Append the records, in this order for each key; return once all of them are durable (``acks=all``).

        Returns the ends of the log behind them: topic/partition → the offset that the next record gets.
        Raises Unavailable when it is unknown whether they are durable; appending them again may double them.
        """
