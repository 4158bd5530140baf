"""Audit run: reads the store and the topics partition by partition, and applies the rules to each.

The order of reading matters: the stages' commits, the dead letters, the store, the topics up to their ends. So the
effects of all that a stage had committed are in the facts of the store, and the records of all that the store calls
published are in the topics. Memory holds one partition at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from adapters.kafka.consumer import Received
from adapters.kafka.partitions import partition_of
from adapters.kafka.reader import KafkaReader
from audit.findings import Report
from audit.records import seen, set_aside
from audit.rules import Judge, settle
from audit.topic_checks import TOPICS, Trail, checks
from audit.topic_checks import trails as trails_of
from domain.audit import AuditStore, Begins, Span
from schemas.topics import dead_letter_topic, partition_count, stages

_CLOCKS_MS = 60_000
"""Tolerance for clocks that differ: the first records of the window may be dated so long before it."""
_PUBLISHED_WITHIN_MS = 2_000
"""Most time between a message and its record; a broker that lost its log was away for longer."""

Committed: TypeAlias = Mapping[str, Mapping[int, int]]
"""Stage → partition of message.created → committed offset."""


@dataclass(slots=True)
class Audit:
    """Audits the messages created since ``since``; only those of the conversations in ``only``, if given."""

    store: AuditStore
    reader: KafkaReader
    committed: Callable[[], Awaitable[Committed]]
    since: datetime
    grace_s: float
    only: Collection[str] | None = None
    report: Report = field(default_factory=Report)

    async def run(self) -> Report:
        """Run the audit; return its report. Raises Unavailable."""
        for name in checks():
            self.report.check(name)
        topics = [*TOPICS, *(dead_letter_topic(stage) for stage in stages())]
        begins = await self.reader.begins(topics, int(self.since.timestamp() * 1000) - _CLOCKS_MS)
        committed = await self.committed()
        letters = await self._letters(begins)
        partitions = self._partition_count(begins)
        spans: defaultdict[int, list[Span]] = defaultdict(list)
        for span in await self.store.spans(self.since, self.only):
            spans[partition_of(span.conversation_id.encode(), partitions)].append(span)
        for number in self._partitions(partitions, max(len(begins.topics[topic]) for topic in TOPICS)):
            offsets = {stage: committed[stage].get(number, 0) for stage in stages()}
            await self._partition(number, partitions, spans[number], begins, offsets, letters)
        settle(await self.store.loose(self.since, self.grace_s, self.only), self.report, letters["media"])
        return self.report

    def _partition_count(self, begins: Begins) -> int:
        """Return the number of partitions that have records; note topics that have more, or fewer."""
        declared = partition_count()
        for topic in TOPICS:
            if (found := len(begins.topics[topic])) != declared:
                self.report.remarks.append(f"{topic}: {found} partitions, {declared} are declared")
        return min(declared, *(len(begins.topics[topic]) for topic in TOPICS))

    def _partitions(self, count: int, existing: int) -> Sequence[int]:
        """Return the partitions to read: also those that must be empty, unless few conversations are audited."""
        if self.only is None:
            return range(existing)
        return sorted({partition_of(id_.encode(), count) for id_ in self.only})

    async def _partition(
        self,
        number: int,
        partitions: int,
        spans: Sequence[Span],
        begins: Begins,
        committed: Mapping[str, int],
        letters: Mapping[str, Collection[str]],
    ) -> None:
        facts = await self.store.facts(spans)
        at = {topic: begins.of(topic, number) for topic in TOPICS}
        first_ms = {topic: begin.first_ms - _PUBLISHED_WITHIN_MS if begin else 0.0 for topic, begin in at.items()}
        trails = trails_of(facts, letters, first_ms)
        offsets = {(topic, number): begin.offset for topic, begin in at.items() if begin}
        async for batch in self.reader.read(offsets):
            for record in batch:
                self._follow(trails[record.topic], record, partitions)
        judge = Judge(
            facts=facts,
            trails=trails,
            aside=letters,
            committed=committed,
            first_ms=first_ms,
            grace_ms=self.grace_s * 1000,
            report=self.report,
        )
        judge.judge()
        for topic, trail in trails.items():
            trail.close(await self.store.known(topic, list(trail.unknown)), self.report)

    def _follow(self, trail: Trail, record: Received, partitions: int) -> None:
        content = seen(record)
        if self.only is not None and (content is None or content.conversation_id not in self.only):
            return
        place = (record.key, record.partition)
        is_there = content is None or place == (
            content.conversation_id.encode(),
            partition_of(content.conversation_id.encode(), partitions),
        )
        trail.add(record.offset, content, in_place=is_there)

    async def _letters(self, begins: Begins) -> dict[str, set[str]]:
        by_topic = {dead_letter_topic(stage): stage for stage in stages()}
        ids: dict[str, set[str]] = {stage: set() for stage in stages()}
        offsets = {(topic, n): begin.offset for topic in by_topic for n, begin in enumerate(begins.topics[topic])}
        async for batch in self.reader.read(offsets):
            for letter in batch:
                if self.only is not None and (letter.key or b"").decode(errors="replace") not in self.only:
                    continue
                self.report.letters[by_topic[letter.topic]] += 1
                if id_ := set_aside(letter):
                    ids[by_topic[letter.topic]].add(id_)
        return ids
