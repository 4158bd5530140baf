"""Twin of Kafka for writers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from domain.audit import Begins, LogBegin
from domain.errors import Unavailable
from domain.event_log import ConsumedRecord
from domain.log_position import Position
from domain.receipts import Progress
from schemas.codec import Headers, Record, decode
from schemas.events import AnyEvent, ReceiptRecorded


@dataclass(frozen=True, slots=True)
class Placed:
    """A record with its place."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers


@dataclass(slots=True)
class MemoryLog:
    """EventLog, and its Positions. Set ``down`` to make it unavailable."""

    records: list[Record] = field(default_factory=list)
    down: bool = False
    life: int = 1
    topics: bool = True
    partitions: dict[str, int] = field(default_factory=dict)
    """Topic → its number of partitions, for ``read``; all records are in the first."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        if self.down or not self.topics:
            raise Unavailable("the broker does not answer, or has no such topic")
        self.records.extend(records)
        return self._ends()

    async def read(self) -> Position:
        if self.down:
            raise Unavailable("the broker does not answer")
        missing = () if self.topics else ("message.created",)
        return Position(
            cluster_id=f"life {self.life}",
            replication=1,
            ends=self._ends(),
            missing=missing,
            partitions=dict(self.partitions),
        )

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[MemoryReader]:
        """Yield a LogReader of this log."""
        yield MemoryReader(self)

    def _ends(self) -> dict[str, int]:
        return dict(Counter(f"{record.topic}/0" for record in self.records))

    async def restore(self, replication: int) -> None:
        self.topics = True

    def lose(self) -> None:
        """Come back as another broker, without topics and records."""
        self.records.clear()
        self.life, self.topics = self.life + 1, False

    def lose_records(self) -> None:
        """Come back as the same broker with the same topics, and without records."""
        self.records.clear()

    def events(self, topic: str) -> list[AnyEvent]:
        """Return the events that were appended to a topic."""
        return [decode(r.topic, r.key, r.value) for r in self.records if r.topic == topic]


@dataclass(frozen=True, slots=True)
class MemoryReader:
    """LogReader of a log in memory."""

    log: MemoryLog

    async def begins(self, topics: Collection[str], since_ms: int) -> Begins:
        return Begins({topic: [LogBegin(0, 0.0)] for topic in topics})

    async def read(self, offsets: Mapping[tuple[str, int], int]) -> AsyncIterator[Sequence[ConsumedRecord]]:
        for (topic, partition), begin in offsets.items():
            mine = [record for record in self.log.records if record.topic == topic]
            yield [
                Placed(topic, partition, offset, record.key, record.value, record.headers)
                for offset, record in enumerate(mine)
                if offset >= begin
            ]


@dataclass(slots=True)
class MemoryReceiptProgress:
    """ReceiptProgress of one partition. ``handled`` returns how many of the log's records the status stage has done."""

    log: MemoryLog = field(default_factory=MemoryLog)
    handled: Callable[[], int] = lambda: 0

    async def read(self) -> Mapping[int, Progress]:
        if self.log.down:
            raise Unavailable("the broker does not answer")
        receipts = [number for number, record in enumerate(self.log.records) if record.topic == ReceiptRecorded.TOPIC]
        stored = sum(1 for number in receipts if number < self.handled())
        return {0: Progress(len(receipts), stored)}
