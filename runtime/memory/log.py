"""The twin of Kafka for writers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.errors import Unavailable
from schemas.codec import Record, decode
from schemas.events import AnyEvent


@dataclass(slots=True)
class MemoryLog:
    """An EventLog. Set ``down`` to make it refuse."""

    records: list[Record] = field(default_factory=list)
    down: bool = False

    async def append(self, records: Sequence[Record]) -> None:
        if self.down:
            raise Unavailable("the broker does not answer")
        self.records.extend(records)

    def events(self, topic: str) -> list[AnyEvent]:
        """What was appended to a topic, decoded."""
        return [decode(r.topic, r.value) for r in self.records if r.topic == topic]
