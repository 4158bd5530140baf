"""Check of the store against the log: a store that went back in time lacks events that the log holds.

Every event is in the store before it is published. So what the log holds behind its noted end was published and not
marked, by a relay that died in between, or it was marked, too, and the store has lost both since: it was restored, or a
replica was promoted that lagged. A relay that published then would give the seqs of the lost entries a second meaning
for all readers of the log, so it refuses, until `millrace recover` has put back what the log holds.

The store can go back only while it is away, so each session of a relay with the store begins with one check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog

from domain.event_log import ConsumedRecord, LogReader
from domain.log_position import Position, Positions
from domain.outbox import Entered, Outbox, StoreBehind
from schemas.codec import Malformed, decode
from schemas.events import ConversationChanged, MessageCreated

_log = structlog.get_logger()

TOPICS = (MessageCreated.TOPIC, ConversationChanged.TOPIC)
SOURCE = ("ce_source", b"millrace/relay")
"""Header of what a relay has published: records of others are not taken for events of the store."""
LAST = 100
"""Records before the end that are looked at where the noted end says nothing, since the log has lost records itself."""


@dataclass(slots=True)
class StoreCheck:
    """Compares the end of the log with the store. ``on_result`` is called with True when the store is behind."""

    positions: Positions
    open_reader: Callable[[], AbstractAsyncContextManager[LogReader]]
    on_result: Callable[[bool], None] = lambda _: None
    _reason: str | None = None

    @property
    def warnings(self) -> list[str]:
        """Return a sentence when the store is behind, and what to do."""
        return [] if self._reason is None else [self._reason]

    async def ensure_complete(self, outbox: Outbox) -> None:
        """Return when the store has everything that the log holds. Raises StoreBehind, Unavailable."""
        current = await self.positions.read()
        begins = begins_of(current, await outbox.noted())
        lacking = await self._first_lacking(outbox, begins) if begins else None
        self.on_result(lacking is not None)
        if lacking is None:
            self._reason = None
            return
        place = f"{lacking.topic}/{lacking.partition}"
        reason = (
            f"the store lacks events that the log holds ({place} from offset {lacking.offset}): it went back in time"
        )
        self._reason = f"{reason}; nothing is published until you run `millrace recover`"
        _log.error(
            "store_lacks_events",
            topic=lacking.topic,
            partition=lacking.partition,
            offset=lacking.offset,
            reason=self._reason,
        )
        raise StoreBehind(self._reason)

    async def _first_lacking(self, outbox: Outbox, begins: dict[tuple[str, int], int]) -> ConsumedRecord | None:
        async with self.open_reader() as reader:
            async for records in reader.read(begins):
                entered = entered_of(records)
                nth = await outbox.first_lacking([event for _, event in entered])
                if nth is not None:
                    return entered[nth][0]
        return None


def begins_of(current: Position, noted: Position | None) -> dict[tuple[str, int], int]:
    """Return where to begin to read each partition of TOPICS that may hold what the store lacks: its noted end."""
    is_same = noted is not None and noted.cluster_id == current.cluster_id
    begins: dict[tuple[str, int], int] = {}
    for place, end in current.ends.items():
        topic, _, partition = place.rpartition("/")
        if topic not in TOPICS:
            continue
        begin = noted.ends.get(place, 0) if noted is not None and is_same else 0
        if (not is_same and noted is not None) or begin > end:
            begin = max(0, end - LAST)
        if begin < end:
            begins[topic, int(partition)] = begin
    return begins


def entered_of(records: Sequence[ConsumedRecord]) -> list[tuple[ConsumedRecord, Entered]]:
    """Return the records that a relay has published, with their events."""
    found: list[tuple[ConsumedRecord, Entered]] = []
    for record in records:
        if SOURCE not in record.headers:
            continue
        try:
            event = decode(record.topic, record.key, record.value)
        except Malformed:
            continue  # of another release
        if isinstance(event, MessageCreated | ConversationChanged):
            found.append((record, event))
    return found
