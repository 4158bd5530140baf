"""The gauge of open letters: the newest of each record, without those that are closed or no longer kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from adapters.kafka.consumer import Received
from audit.open_letters import OpenLetters
from domain.audit import Begins, LogBegin


@dataclass
class Topics:
    """Stands in for the reader: one partition of each topic."""

    records: list[Received] = field(default_factory=list)
    begin: int = 0
    reads: list[int] = field(default_factory=list)

    async def begins(self, topics: Collection[str], since_ms: int) -> Begins:
        return Begins({topic: [LogBegin(self.begin)] for topic in topics})

    async def read(self, offsets: Mapping[tuple[str, int], int]) -> AsyncIterator[Sequence[Received]]:
        found = [r for r in self.records if r.offset >= offsets[r.topic, r.partition]]
        self.reads.append(len(found))
        yield found

    def write(self, id_: str, origin: str) -> None:
        headers = (("dlq-id", id_.encode()), ("dlq-origin", origin.encode()))
        self.records.append(Received("search.dlq", 0, len(self.records), b"key", b"", headers))


async def test_open_letters_are_the_newest_that_nobody_closed_and_each_is_read_once():
    topics, letters, closed = Topics(), OpenLetters(), set[str]()

    async def count() -> int:
        async def of(stage: str) -> Collection[str]:
            return closed

        counts = await letters.count(topics, of)
        assert sum(counts.values()) == counts["search"]
        return counts["search"]

    assert await count() == 0
    for id_, origin in (("a", "t/0/1"), ("b", "t/0/2"), ("c", "t/0/1")):
        topics.write(id_, origin)
    assert await count() == 2  # c is the newer self of a
    closed.add("c")
    assert await count() == 1
    topics.write("d", "t/0/1")
    assert await count() == 2
    topics.begin = 3  # b and all before d are no longer kept
    assert await count() == 1
    assert topics.reads == [0, 3, 0, 1, 0]
