"""The relay: order, and nothing marked that Kafka has not acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager

import pytest
import structlog

from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.tables import Tables
from domain.errors import Unavailable
from domain.outbox import Loss, Owed
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from schemas.codec import encode
from schemas.events import MessageCreated
from tests import make


@pytest.fixture
async def tables() -> Tables:
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    await MemoryIntake(tables).accept([make.draft(str(n)) for n in range(5)])
    return tables


@asynccontextmanager
async def _never():
    raise AssertionError
    yield


async def test_rows_are_published_in_seq_order_and_once(tables):
    log, outbox = MemoryLog(), MemoryOutbox(tables)
    relay = Relay(_never, log, LossDetector(log))
    await outbox.claim()
    assert await relay.publish(outbox) == 6  # five messages and the creation
    assert await relay.publish(outbox) == 0
    assert [e.message.seq for e in log.events("message.created")] == [1, 2, 3, 4, 5]
    assert {r.key for r in log.records} == {make.ROOM.encode()}
    assert all(dict(r.headers)["ce_type"] == r.topic.encode() for r in log.records)


async def test_nothing_is_marked_when_the_broker_does_not_acknowledge(tables):
    log, outbox = MemoryLog(down=True), MemoryOutbox(tables)
    await outbox.claim()
    with pytest.raises(Unavailable):
        await Relay(_never, log, LossDetector(log)).publish(outbox)
    assert len(await outbox.unpublished(100)) == 6


async def test_rows_that_come_fast_are_gathered_and_one_alone_is_published_at_once(tables):
    log, intake = make.Noted(), MemoryIntake(tables)

    @asynccontextmanager
    async def outbox():
        yield MemoryOutbox(tables)

    async def stored(key: int) -> None:
        await intake.accept([make.draft(str(key))])
        relay.wake()

    relay = Relay(outbox, log, LossDetector(log), gather_s=0.1)
    running = asyncio.create_task(relay.run())
    async with asyncio.timeout(5):
        while log.appended != [6]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for key in range(10, 30):
            await stored(key)
            await asyncio.sleep(0)
        while len(log.appended) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(2 * relay.gather_s)
    for key in (30, 31, 32):
        await stored(key)
        for _ in range(50):  # turns of the loop, in which no time passes
            await asyncio.sleep(0)
    running.cancel()
    assert log.appended == [6, 20, 1, 1, 1]


def committed(tables: Tables, *seqs: int) -> list[Owed]:
    """Rows as they are right after their commit."""
    found = {row.seq: row.event for row in tables.outbox.values() if isinstance(row.event, MessageCreated)}
    return [Owed(make.ROOM, seq, "message.created", encode(found[seq]), found[seq].event_id) for seq in seqs]


class Counted(MemoryOutbox):
    """An outbox that counts how often it was read."""

    reads = 0

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        Counted.reads += 1
        return await super().unpublished(limit)


async def test_what_was_committed_here_is_published_without_being_read_and_marked_later(tables):
    log, outbox, intake = MemoryLog(), Counted(tables), MemoryIntake(tables)
    relay = Relay(_never, log, LossDetector(log))
    await outbox.claim()
    await relay.publish(outbox)
    reads = Counted.reads
    await intake.accept([make.draft(), make.draft()])
    relay.publish_soon(committed(tables, 6, 7))
    assert await relay.publish(outbox) == 2
    assert (Counted.reads, len(await outbox.unpublished(100))) == (reads, 8)
    assert await relay.mark(outbox)
    assert await outbox.unpublished(100) == []
    await intake.accept([make.draft(), make.draft()])
    relay.publish_soon(committed(tables, 9))  # the other was committed by another process
    assert await relay.publish(outbox) == 2
    assert [e.message.seq for e in log.events("message.created")] == [*range(1, 10)]


async def test_rows_that_a_loss_owes_again_come_before_what_was_committed_here(tables):
    log, outbox, intake, now = MemoryLog(), MemoryOutbox(tables), MemoryIntake(tables), [0.0]
    relay = Relay(_never, log, LossDetector(log, clock=lambda: now[0], confirm_s=0))
    await outbox.claim()
    await relay.publish(outbox)
    log.lose()
    now[0] += 3.0
    await intake.accept([make.draft()])
    relay.publish_soon(committed(tables, 6))
    await relay.publish(outbox)
    assert [e.message.seq for e in log.events("message.created")] == [1, 2, 3, 4, 5, 6]


async def test_rows_that_another_relay_owes_again_come_before_what_was_committed_here(tables):
    log, intake, now, outboxes = MemoryLog(), MemoryIntake(tables), [0.0], [MemoryOutbox(tables), MemoryOutbox(tables)]
    relay, other = (Relay(_never, log, LossDetector(log, clock=lambda: now[0], confirm_s=0)) for _ in outboxes)
    await outboxes[0].claim()
    await relay.publish(outboxes[0])
    await relay.mark(outboxes[0])
    log.lose()
    now[0] += 3.0
    await other.publish(outboxes[1])  # finds the loss, and owns no shard
    await intake.accept([make.draft()])
    relay.publish_soon(committed(tables, 6))
    await relay.publish(outboxes[0])
    assert [e.message.seq for e in log.events("message.created")] == [1, 2, 3, 4, 5, 6]


async def test_a_relay_publishes_only_shards_it_owns(tables):
    log = MemoryLog()
    assert await Relay(_never, log, LossDetector(log)).publish(MemoryOutbox(tables)) == 0
    assert log.records == []


async def test_a_log_that_comes_back_empty_is_filled_again_in_order_before_anything_newer(tables):
    log, outbox, losses = MemoryLog(), MemoryOutbox(tables), []
    relay = Relay(_never, log, LossDetector(log, losses.append, lambda: now, confirm_s=0))
    now = 0.0
    await outbox.claim()
    await relay.publish(outbox)
    await relay.mark(outbox)
    log.lose()
    await MemoryIntake(tables).accept([make.draft("newer")])
    now += 3.0
    assert await relay.publish(outbox) == 7
    assert [e.message.seq for e in log.events("message.created")] == [1, 2, 3, 4, 5, 6]
    assert [loss.rows for loss in losses] == [6]
    await relay.mark(outbox)
    now += 3.0
    assert await relay.publish(outbox) == 0


async def test_what_a_lost_log_acknowledged_is_not_marked(tables):
    log, outbox = MemoryLog(), MemoryOutbox(tables)
    now = 0.0

    class Slow(MemoryLog):
        async def append(self, records):
            nonlocal now
            now += 3.0
            log.lose()

    relay = Relay(_never, Slow(), LossDetector(log, clock=lambda: now, confirm_s=0))
    await outbox.claim()
    await outbox.compare(await log.read())
    await relay.publish(outbox)
    assert len(await outbox.unpublished(100)) == 6


async def test_what_a_log_acknowledged_before_another_relay_found_its_loss_is_not_marked(tables):
    log, outbox, other = MemoryLog(), MemoryOutbox(tables), MemoryOutbox(tables)
    now, losses = [0.0], list[Loss]()

    class Slow(MemoryLog):
        async def append(self, records):
            ends = await log.append(records)
            log.lose()
            now[0] += 3.0
            await finder.ensure_intact(other)
            return ends

    finder, detector = (LossDetector(log, losses.append, lambda: now[0], confirm_s=0) for _ in range(2))
    relay = Relay(_never, Slow(), detector)
    await outbox.claim()
    await outbox.compare(await log.read())
    await relay.publish(outbox)
    await relay.mark(outbox)
    assert len(await outbox.unpublished(100)) == 6
    assert len(losses) == 1  # counted by the relay that found it


async def test_a_broker_without_topics_that_was_never_whole_is_waited_for(tables):
    log = MemoryLog(topics=False)
    outbox = MemoryOutbox(tables)
    await outbox.claim()
    with pytest.raises(Unavailable, match="topics apply"):
        await Relay(_never, log, LossDetector(log)).publish(outbox)


async def test_another_number_of_partitions_is_reported_once_and_publishing_goes_on(tables):
    log, outbox = MemoryLog(), MemoryOutbox(tables)
    now, seen = [0.0], list[dict[str, int]]()
    detector = LossDetector(
        log,
        clock=lambda: now[0],
        confirm_s=0,
        partitions={"message.created": 12, "message.sent": 12},
        on_partitions=lambda differing: seen.append(dict(differing)),
    )
    relay = Relay(_never, log, detector)
    await outbox.claim()
    log.partitions = {"message.created": 12, "message.sent": 12}
    await relay.publish(outbox)
    assert (seen, detector.warnings) == ([], [])
    log.partitions["message.created"] = 18
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            now[0] += 10
            await MemoryIntake(tables).accept([make.draft("newer")])
            relay.wake()
            assert await relay.publish(outbox) == 1
    assert detector.warnings == ["message.created has 18 partitions, 12 are declared"]
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["topic"], line["partitions"]) for line in errors] == [
        ("partitions_differ", "message.created", 18)
    ]
    log.partitions["message.created"] = 12
    now[0] += 10
    await relay.publish(outbox)
    assert (seen, detector.warnings) == ([{"message.created": 18}, {}], [])
