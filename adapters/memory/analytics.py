"""Twin of the counts that members read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.memory.effects import MemoryCounts


@dataclass(frozen=True, slots=True)
class MemoryMinuteCounts:
    """MinuteCounts over the counts of the stage."""

    counts: MemoryCounts

    async def minutes(
        self, conversation_id: str, start: datetime | None, end: datetime | None, limit: int
    ) -> Sequence[tuple[datetime, int]]:
        rows = [
            (datetime.fromisoformat(minute), messages)
            for (conversation, minute), messages in self.counts.totals.items()
            if conversation == conversation_id
        ]
        within = [row for row in rows if (start is None or row[0] >= start) and (end is None or row[0] < end)]
        return sorted(within, reverse=True)[:limit]
