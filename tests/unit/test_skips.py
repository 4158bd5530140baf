"""A record that a reader cannot get past is stepped over on an operator's word, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from adapters.kafka.consumer import Received
from adapters.memory.effects import MemoryNotifications
from adapters.memory.facts import MemoryFacts
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.log import MemoryLog
from adapters.memory.parking import MemoryParking
from adapters.memory.skips import MemorySkips
from adapters.memory.tables import Tables
from domain.errors import Unavailable
from domain.skips import SkipList, digest
from gateway.dispatcher import Dispatcher
from schemas.codec import record
from schemas.events import AnyEvent, MessageCreated, MessageSent
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.retry import RetryPolicy
from streams.stage import Stage
from tests import make

QUICK = RetryPolicy(total_s=5.0, attempt_s=0.1, first_s=0.001, most_s=0.01)


def consumed(seq: int) -> ConsumerRecord:
    made = record(make.created(seq=seq), producer="test")
    return ConsumerRecord(made.topic, 3, seq, made.key, made.value, made.headers)


async def echo(events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    return [make.sent(message_id=e.message.message_id, seq=e.message.seq) for e in events]


def stage(handle, parking=None) -> Stage:
    return Stage("status", (MessageCreated,), (MessageSent,), handle, parking)


async def skip_list(*skipped: ConsumerRecord) -> SkipList:
    found = SkipList(MemorySkips(), "status")
    for each in skipped:
        await found.skips.add("status", each)
    await found.read()
    return found


@pytest.mark.parametrize("parking", [None, MemoryParking()])
async def test_a_skipped_record_is_a_dead_letter_unhandled_and_parks_nothing(parking):
    log, batch = MemoryLog(), [consumed(seq) for seq in (1, 2, 3)]
    skips = await skip_list(batch[1])
    await process(stage(echo, parking), batch, log, QUICK, make.done, skips.covers)
    assert [e.message.seq for e in log.events("message.sent")] == [1, 3]
    [letter] = [r for r in log.records if r.topic == "status.dlq"]
    headers = dict(letter.headers)
    assert (headers["dlq-cause"], headers["dlq-origin"], letter.value) == (
        b"skipped",
        b"message.created/3/2",
        batch[1].value,
    )


async def test_a_record_is_stepped_over_while_the_stage_is_stuck_on_it():
    log, batch = MemoryLog(), [consumed(seq) for seq in (1, 2, 3)]
    skips = await skip_list()
    stuck = asyncio.Event()

    async def handle(events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        if any(e.message.seq == 2 for e in events):
            stuck.set()
            raise Unavailable("locked")
        return await echo(events)

    working = asyncio.create_task(process(stage(handle), batch, log, QUICK, make.done, skips.covers))
    await stuck.wait()
    await skips.skips.add("status", batch[1])
    await skips.read()
    await working
    assert list(dict.fromkeys(e.message.seq for e in log.events("message.sent"))) == [1, 3]
    assert [r.topic for r in log.records].count("status.dlq") == 1


async def test_another_record_in_the_same_place_is_handled():
    """A log that lost its records counts their offsets anew."""
    first = consumed(1)
    skips = await skip_list(first)
    assert skips.covers(first)
    assert not skips.covers(replace(consumed(7), offset=1))
    assert not skips.covers(replace(first, offset=2))
    assert not skips.covers(replace(first, partition=4))
    assert digest(replace(first, key=b"a", value=b"bc")) != digest(replace(first, key=b"ab", value=b"c"))


async def test_a_replay_of_a_skipped_record_is_handled():
    first = consumed(1)
    skips = await skip_list(first)
    retried = ConsumerRecord("status.retry", 3, 1, first.key, first.value, (("dlq-origin", b"message.created/3/1"),))
    log = MemoryLog()
    await process(stage(echo), [retried], log, QUICK, make.done, skips.covers)
    assert [r.topic for r in log.records] == ["message.sent"]


async def test_the_last_list_stays_while_the_store_is_out():
    first = consumed(1)
    skips = await skip_list(first)

    class Out(MemorySkips):
        async def of(self, reader):
            raise Unavailable("PostgreSQL does not answer")

    skips.skips = Out()
    await skips.read()
    assert skips.covers(first)


@dataclass
class Group:
    """A consumer that returns one batch."""

    records: Sequence[Received]

    async def batch(self, limit: int) -> Sequence[Received]:
        if not self.records:
            await asyncio.Event().wait()
        found, self.records = self.records, ()
        return found

    async def commit(self) -> None: ...


class Published(list):
    async def publish(self, messages):
        self.extend(messages)


async def test_the_gateways_step_over_a_record():
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    stored = await MemoryIntake(tables).accept([make.draft("bad"), make.draft("good")])
    bad, good = (record(MessageSent(message=one.message, sent_at=make.AT), producer="test") for one in stored)
    records = [Received(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate((bad, good))]
    skips = SkipList(MemorySkips(), "gateway")
    await skips.skips.add("gateway", records[0])
    published = Published()
    made = Dispatcher(
        Group(records), published, MemoryFacts(tables, MemoryNotifications(tables)), MemoryHistory(tables), skips
    )
    dispatcher = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        while not published:  # noqa: ASYNC110
            await asyncio.sleep(0)
    dispatcher.cancel()
    assert len([channel for channel, _ in published if channel.startswith("conversation:")]) == 1
