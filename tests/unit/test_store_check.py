"""The relay refuses to publish while the log holds events that the store lacks."""

from __future__ import annotations

from copy import deepcopy

import pytest

from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.tables import Tables
from domain.log_position import Position
from domain.outbox import StoreBehind
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from ingest.store_check import LAST, StoreCheck, begins_of
from schemas.codec import record
from schemas.events import MessageCreated
from tests import make


async def store_with(messages: int) -> Tables:
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    await MemoryIntake(tables).accept([make.draft(str(n)) for n in range(messages)])
    return tables


async def published(log: MemoryLog, tables: Tables) -> MemoryOutbox:
    outbox = MemoryOutbox(tables)
    await outbox.claim()
    relay = Relay(lambda: None, log, LossDetector(log))
    while await relay.publish(outbox):
        pass
    await relay.mark(outbox)
    return outbox


async def test_a_store_that_went_back_is_refused_and_what_to_do_is_said():
    log, results = MemoryLog(), []
    check = StoreCheck(log, log.reader, results.append)
    tables = await store_with(2)
    await check.ensure_complete(await published(log, tables))
    copy = deepcopy(tables)
    await MemoryIntake(tables).accept([make.draft("lost")])
    outbox = await published(log, tables)
    await check.ensure_complete(outbox)
    assert check.warnings == []
    with pytest.raises(StoreBehind, match="millrace recover"):
        await check.ensure_complete(MemoryOutbox(copy))
    [warning] = check.warnings
    assert "message.created/0 from offset 2" in warning
    await check.ensure_complete(outbox)  # the store has it again
    assert (check.warnings, results) == ([], [False, False, True, False])


async def test_a_relay_that_died_before_it_marked_is_no_sign_of_it():
    log, tables = MemoryLog(), await store_with(2)
    outbox = await published(log, tables)
    await MemoryIntake(tables).accept([make.draft("published, not marked")])
    before = deepcopy(tables)
    await published(log, tables)
    await StoreCheck(log, log.reader).ensure_complete(MemoryOutbox(before))
    assert outbox.shards


async def test_an_empty_store_beside_a_log_with_records_is_behind():
    log = MemoryLog()
    await published(log, await store_with(1))
    with pytest.raises(StoreBehind):
        await StoreCheck(log, log.reader).ensure_complete(MemoryOutbox(Tables()))


async def test_records_that_no_relay_has_written_are_no_sign_of_it():
    log, tables = MemoryLog(), await store_with(1)
    outbox = await published(log, tables)
    await log.append([record(MessageCreated(message=make.message(seq=99)), producer="somebody")])
    await StoreCheck(log, log.reader).ensure_complete(outbox)


async def test_a_relay_publishes_nothing_to_a_log_that_is_ahead():
    log = MemoryLog()
    await published(log, await store_with(3))
    tables = await store_with(1)
    tables.noted = Position(cluster_id="life 1", replication=1, ends={})
    relay = Relay(lambda: None, log, LossDetector(log), store_check=StoreCheck(log, log.reader))
    records = len(log.records)
    with pytest.raises(StoreBehind):
        await relay._serve(MemoryOutbox(tables))
    assert (len(log.records), len(relay.warnings)) == (records, 1)


def position(cluster: str = "one", **ends: int) -> Position:
    return Position(
        cluster_id=cluster, replication=1, ends={f"message.created/{p[1:]}": end for p, end in ends.items()}
    )


def test_the_log_is_read_from_its_noted_end():
    assert begins_of(position(p0=5, p1=9), position(p0=5, p1=7)) == {("message.created", 1): 7}
    assert begins_of(position(p0=5), None) == {("message.created", 0): 0}


def test_of_a_log_that_lost_records_the_last_ones_are_read():
    assert begins_of(position(p0=500), position(p0=900)) == {("message.created", 0): 500 - LAST}
    assert begins_of(position("other", p0=5), position(p0=900)) == {("message.created", 0): 0}


def test_topics_of_other_writers_are_not_read():
    assert begins_of(Position(cluster_id="one", replication=1, ends={"receipt.recorded/0": 4}), None) == {}
