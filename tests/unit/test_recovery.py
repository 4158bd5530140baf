"""A store that went back in time beside its log: the relay refuses, recovery puts back, the relay goes on."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.recovery import MemoryRecovery
from adapters.memory.tables import Tables
from cli.recovery import Outcome, recover, report, survey
from domain.outbox import StoreBehind
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from ingest.store_check import StoreCheck
from schemas.codec import EPOCH, record
from schemas.events import MessageCreated, ReceiptRecorded
from tests import make


async def say(tables: Tables, *contents: str) -> None:
    await MemoryIntake(tables).accept([make.draft(text) for text in contents])


async def publish(tables: Tables, log: MemoryLog) -> None:
    outbox = MemoryOutbox(tables)
    await outbox.claim()
    relay = Relay(lambda: None, log, LossDetector(log))
    relay._epoch = await outbox.begin_epoch()
    while await relay.publish(outbox):
        pass
    await relay.mark(outbox)


async def recovered(tables: Tables, log: MemoryLog, *, dry_run: bool = False) -> tuple[dict[str, Any], MemoryRecovery]:
    store = MemoryRecovery(tables)
    async with log.reader() as reader:
        await store.begin()
        found = await survey(store, reader, await log.read())
        outcome: Outcome = await recover(store, found, dry_run=dry_run)
    return report(found, outcome), store


def contents(tables: Tables) -> list[str]:
    return [tables.messages[change.message.message_id].content for change in tables.changes[make.ROOM]]


async def test_what_the_log_holds_comes_back_and_the_relay_goes_on():
    tables, log = Tables(), MemoryLog()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    await say(tables, "kept")
    await publish(tables, log)
    restored = deepcopy(tables)
    tables.epochs.begin("2-lost")
    await say(tables, "lost 1", "lost 2")
    await publish(tables, log)
    read = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=3, read_seq=2, at=make.AT)
    await log.append([record(read, producer="millrace/gateway")])
    restored.epochs.begin("2-restored")
    check = StoreCheck(log, log.reader)
    with pytest.raises(StoreBehind):
        await check.ensure_complete(MemoryOutbox(restored))

    would, _ = await recovered(restored, log, dry_run=True)
    assert (would["messages"], contents(restored)) == (2, ["kept"])
    done, store = await recovered(restored, log)
    assert done == {**would, "byConversation": done["byConversation"]}
    assert (done["messages"], done["receipts"], done["gone"]) == (2, 1, {"entries": 0, "events": 0, "trimmed": 0})
    assert [each["conversationId"] for each in done["byConversation"]] == [make.ROOM]
    assert contents(restored) == ["kept", "lost 1", "lost 2"]
    assert store.receipts == [read]
    assert "2-lost" in restored.epochs.ids

    await check.ensure_complete(MemoryOutbox(restored))
    records = len(log.records)
    await publish(restored, log)
    assert len(log.records) > records  # the stages do again what the store has lost of their work
    assert {dict(each.headers)[EPOCH] for each in log.records[records:]} == {b"2-restored"}
    again, _ = await recovered(restored, log)
    assert (again["messages"], again["conversations"], again["first"]) == (0, 0, None)
    assert contents(restored) == ["kept", "lost 1", "lost 2"]


async def test_records_of_strangers_do_not_come_back():
    tables, log = Tables(), MemoryLog()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    await publish(tables, log)
    await log.append([record(MessageCreated(message=make.message(content="forged")), producer="somebody")])
    done, _ = await recovered(tables, log)
    assert (done["messages"], done["first"]) == (0, None)
