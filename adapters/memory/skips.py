"""Twin of the records that readers step over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.event_log import PlacedRecord
from domain.skips import Place, digest


@dataclass(slots=True)
class MemorySkips:
    """Skips on dictionaries."""

    rows: defaultdict[str, dict[Place, bytes]] = field(default_factory=lambda: defaultdict(dict))

    async def of(self, reader: str) -> Mapping[Place, bytes]:
        return dict(self.rows[reader])

    async def add(self, reader: str, record: PlacedRecord) -> None:
        self.rows[reader][record.topic, record.partition, record.offset] = digest(record)
