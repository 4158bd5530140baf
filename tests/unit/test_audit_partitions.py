"""An audit of topics that have another number of partitions than topics.yaml declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.kafka.consumer import Received
from audit.auditor import Audit
from audit.findings import Kind
from audit.render import notes
from audit.topic_checks import CREATED
from domain.audit import Begins, LogBegin, Loose, StoreFacts
from schemas.codec import record
from schemas.topics import partition_count, stages
from tests import make


class Topics:
    """A log whose topics have these numbers of partitions, with these records."""

    def __init__(self, partitions: dict[str, int], records: list[Received]) -> None:
        self.partitions, self.records = partitions, records

    async def begins(self, topics: Collection[str], since_ms: int) -> Begins:
        return Begins({topic: [LogBegin(0)] * self.partitions.get(topic, partition_count()) for topic in topics})

    async def read(self, offsets: Mapping[tuple[str, int], int]):
        for topic, number in offsets:
            assert number < self.partitions.get(topic, partition_count())
        yield [r for r in self.records if (r.topic, r.partition) in offsets]


class NothingStored:
    """A store without conversations."""

    async def spans(self, since, only):
        return []

    async def facts(self, spans):
        return StoreFacts(now_ms=10_000_000)

    async def loose(self, since, grace_s, only):
        return Loose()

    async def known(self, topic, ids):
        return {}


@pytest.mark.parametrize("partitions", [partition_count() + 6, partition_count() - 6])
async def test_an_audit_reads_topics_with_another_number_of_partitions(partitions):
    made = record(make.created(), producer="stranger")
    last = partitions - 1
    records = [Received(made.topic, last, 0, made.key, made.value, ())] if partitions > partition_count() else []

    async def committed():
        return {stage: {} for stage in stages()}

    topics: Any = Topics({CREATED: partitions}, records)
    store: Any = NothingStored()
    report = await Audit(store, topics, committed, datetime.now(UTC), 1.0).run()
    assert notes(report)[0] == f"message.created: {partitions} partitions, {partition_count()} are declared"
    assert {finding.kind for finding in report.findings} == ({Kind.PHANTOM, Kind.OUT_OF_ORDER} if records else set())
