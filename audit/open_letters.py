"""Open dead letters of each stage: the newest of each record that nobody has closed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from adapters.kafka.consumer import Received
from adapters.kafka.reader import KafkaReader
from schemas.topics import dead_letter_topic, stages

Closed: TypeAlias = Callable[[str], Awaitable[Collection[str]]]
"""Returns the ids of the closed letters of a stage. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class _Letter:
    id: str
    partition: int
    offset: int


@dataclass(slots=True)
class OpenLetters:
    """Counts open letters. Keeps what it has read, so that each count reads only what came since."""

    _newest: defaultdict[str, dict[str, _Letter]] = field(default_factory=lambda: defaultdict(dict))
    """Stage → origin → its newest letter."""
    _next: dict[tuple[str, int], int] = field(default_factory=dict)

    async def count(self, reader: KafkaReader, closed: Closed) -> dict[str, int]:
        """Return the number of open letters of each stage. Raises Unavailable."""
        by_topic = {dead_letter_topic(stage): stage for stage in stages()}
        begins = await reader.begins(by_topic, since_ms=0)
        first = {(topic, n): begin.offset for topic in by_topic for n, begin in enumerate(begins.topics[topic])}
        async for batch in reader.read({place: max(at, self._next.get(place, 0)) for place, at in first.items()}):
            for record in batch:
                self._take(by_topic[record.topic], record)
        return {stage: self._open(stage, first, await closed(stage)) for stage in stages()}

    def _take(self, stage: str, record: Received) -> None:
        headers = {name: value.decode(errors="replace") for name, value in record.headers}
        place = f"{record.topic}/{record.partition}/{record.offset}"
        letter = _Letter(headers.get("dlq-id", place), record.partition, record.offset)
        self._newest[stage][headers.get("dlq-origin", place)] = letter
        self._next[record.topic, record.partition] = record.offset + 1

    def _open(self, stage: str, first: Mapping[tuple[str, int], int], closed: Collection[str]) -> int:
        topic = dead_letter_topic(stage)
        kept = {
            origin: letter
            for origin, letter in self._newest[stage].items()
            if letter.offset >= first[topic, letter.partition]
        }
        self._newest[stage] = kept
        return sum(letter.id not in closed for letter in kept.values())
