"""Decisions about deferred messages: once, never none, and none for whom a receipt arrives in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.memory.effects import MemoryNotifications
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.log import MemoryLog, MemoryReceiptProgress
from adapters.memory.messages import MemoryMessages
from adapters.memory.redis import MemoryPlaces, MemoryRegistry
from adapters.memory.tables import Tables
from adapters.memory.undecided import MemoryUndecided
from domain.errors import Unavailable
from domain.receipts import ReceiptBarrier
from schemas.codec import Record, record
from schemas.events import AnyEvent, NotificationSent, ReceiptRecorded
from schemas.messages import Message
from streams import due_notifications
from streams.due_notifications import DueNotifications
from streams.stages.notification import HandleNotification
from tests import make

OTHER_ROOM = "01900000-0000-7000-8000-000000000002"


class Cut(Exception):
    """The end of a process between two steps."""


@dataclass
class Site:
    """The rule and its worker on twins, with a clock that moves by hand."""

    each_max_members: int = 64
    at: datetime = datetime(2026, 11, 24, 15, tzinfo=UTC)
    log: MemoryLog = field(default_factory=MemoryLog)
    tables: Tables = field(default_factory=Tables)
    handled: int = 10**9
    crash_after: str = ""

    def __post_init__(self) -> None:
        self.places = MemoryPlaces(now=lambda: self.at.timestamp())
        self.registry = MemoryRegistry(self.places, lease_s=10**9)
        self.notifications = MemoryNotifications(self.tables)
        self.undecided = MemoryUndecided(now=lambda: self.at)
        self.messages = MemoryMessages(self.tables)
        self.rule = HandleNotification(
            self.notifications, self.registry, self.undecided, self.each_max_members, after_s=6.0
        )
        self.worker = self.another_worker()

    def another_worker(self) -> DueNotifications:
        barrier = ReceiptBarrier(MemoryReceiptProgress(self.log, lambda: self.handled), 0.0, 60.0)
        return DueNotifications(self.undecided, self.messages, self.rule, barrier)

    async def open(self, *members: str) -> Site:
        await MemoryConversations(self.tables).create(make.ROOM, None, "alice", list(members))
        return self

    async def say(self, content: str = "hi", sender: str = "alice") -> Message:
        """Accept a message, and let the stage handle it; its first completions are in the log."""
        [accepted] = await MemoryIntake(self.tables).accept([make.draft(content, sender=sender)])
        await self.handle([accepted.message])
        return accepted.message

    async def handle(self, messages: Sequence[Message]) -> None:
        missing = await self.rule.missing(await self.rule([make.created_of(message) for message in messages]))
        await self.log.append([record(event, producer="test") for event in missing.completions])
        await self.rule.done(missing)

    async def pass_(self, seconds: float) -> None:
        """Let time pass, with a turn of the worker each second."""
        for _ in range(int(seconds)):
            self.at += timedelta(seconds=1)
            await self.worker.turn(self.log)

    def told(self) -> list[tuple[int, str]]:
        events = self.log.events("notification.sent")
        return sorted((event.seq, event.user_id) for event in events if isinstance(event, NotificationSent))


async def test_a_phone_that_hears_nothing_is_notified_of_each_message_once():
    site = await Site().open("bob", "carol")
    site.registry.put("phone", "bob")
    for _ in range(3):
        await site.say()
    assert site.told() == [(1, "carol"), (2, "carol"), (3, "carol")]  # who has no connection waits for nothing
    await site.pass_(5)
    assert len(site.told()) == 3
    await site.pass_(20)
    assert site.told() == [(seq, user) for seq in (1, 2, 3) for user in ("bob", "carol")]
    assert site.undecided.rows == {}


async def test_a_device_that_acknowledges_in_time_brings_no_notification():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    for seq in (1, 2):
        await site.say()
        site.tables.receipts[make.ROOM, "bob"] = (seq, 0)
    await site.say()
    await site.pass_(20)
    assert site.told() == [(3, "bob")]


async def test_the_sender_needs_none_and_a_message_to_nobody_who_looks_connected_is_not_deferred():
    site = await Site().open("bob")
    site.registry.put("desk", "alice")
    await site.say()
    assert site.undecided.rows == {}
    assert site.told() == [(1, "bob")]


async def test_a_redis_that_forgot_everything_makes_nobody_look_away():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    site.places.flush()
    for seq in range(1, 41):
        await site.say()
        site.tables.receipts[make.ROOM, "bob"] = (seq, seq)
    await site.pass_(20)
    assert site.told() == []


async def test_without_redis_receipts_decide():
    site = await Site().open("bob", "carol")
    site.places.down = True
    await site.say()
    site.tables.receipts[make.ROOM, "bob"] = (1, 0)
    await site.pass_(20)
    assert site.told() == [(1, "carol")]


async def test_receipts_under_way_are_waited_for():
    site = await Site().open("bob", "carol")
    site.registry.put("phone", "bob")
    site.registry.put("other", "carol")
    site.handled = 0
    await site.say()
    receipt = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, at=make.AT)
    await site.log.append([record(receipt, producer="gateway")])
    await site.pass_(36)  # the status stage stands still
    assert site.told() == []
    site.tables.receipts[make.ROOM, "bob"] = (1, 0)
    site.handled = 10**9
    await site.pass_(2)
    assert site.told() == [(1, "carol")]


async def test_a_status_stage_that_does_not_come_back_holds_up_notifications_for_a_bounded_time():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    site.handled = 0
    receipt = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, at=make.AT)
    await site.log.append([record(receipt, producer="gateway")])
    await site.say()
    await site.pass_(60)
    assert site.told() == []
    await site.pass_(10)
    assert site.told() == [(1, "bob")]


async def test_while_kafka_is_away_nothing_is_decided_and_nothing_lost():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    await site.say()
    await site.pass_(3)
    site.log.down = True
    for _ in range(30):
        with pytest.raises(Unavailable):
            await site.pass_(1)
    assert len(site.undecided.rows) == 1
    site.log.down = False
    await site.pass_(3)
    assert site.told() == [(1, "bob")]


STEPS = ("told_of", "decide", "missing", "done")


@pytest.mark.parametrize("step", [*STEPS, "append", "settle"])
async def test_a_crash_between_any_two_steps_costs_none_and_doubles_none(step: str, monkeypatch: pytest.MonkeyPatch):
    """The worker ends right after a step, with what that has done in the store; another one takes over."""
    site = await Site().open("bob", "carol")
    site.registry.put("phone", "bob")
    site.registry.put("other", "carol")
    for _ in range(2):
        await site.say()
    cut = list[str]()

    def cutting(work: Any) -> Any:
        async def until_then(*arguments: Any) -> Any:
            await work(*arguments)
            cut.append(step)
            raise Cut

        return until_then

    class Dying:
        """Everything that a worker uses, up to the step."""

        def __getattr__(self, name: str) -> Any:
            real = getattr(site.rule, name)
            return cutting(real) if name == step else real

    class DyingLog(MemoryLog):
        async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
            await site.log.append(records)
            cut.append(step)
            raise Cut

    dying = site.another_worker()
    dying.rule = Dying()
    site.at += timedelta(seconds=7)
    if step == "settle":
        monkeypatch.setattr("adapters.memory.undecided.MemoryClaim.settle", cutting(_settle))
    # As at a kill, the claim ends without a commit: no handler of the worker's own gets to run.
    monkeypatch.setattr(DueNotifications, "_apart", _die)
    monkeypatch.setattr(DueNotifications, "_put_off", _die)
    with pytest.raises(Cut):
        await dying.turn(DyingLog() if step == "append" else site.log)
    monkeypatch.undo()
    assert cut
    assert len(site.undecided.rows) == 2
    await site.pass_(3)
    assert site.undecided.rows == {}
    stored = sorted((draft.seq, draft.user_id) for draft in site.notifications.drafts.values())
    assert stored == [(1, "bob"), (1, "carol"), (2, "bob"), (2, "carol")]
    assert sorted(set(site.told())) == stored
    if step not in ("append",):  # between the append and its note the log may get an event again: readers know its id
        assert site.told() == stored


async def _settle(claim: Any, message_ids: Sequence[str]) -> None:
    claim.results.update(dict.fromkeys(message_ids))


async def _die(*_: Any) -> None:
    raise Cut


async def test_several_workers_share_the_work_and_none_does_it_twice():
    site = await Site().open("bob", "carol")
    for user in ("bob", "carol"):
        site.registry.put(user, user)
    for _ in range(20):
        await site.say()
    site.at += timedelta(seconds=7)
    workers = [site.another_worker() for _ in range(4)]
    for _ in range(3):
        await asyncio.gather(*(worker.turn(site.log) for worker in workers))
    assert site.told() == [(seq, user) for seq in range(1, 21) for user in ("bob", "carol")]


async def test_what_another_worker_held_for_long_and_left_is_decided_at_once():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    held = await site.say()
    site.at += timedelta(seconds=7)
    claim = site.undecided.claim(site.at, 10)
    assert (await claim.__aenter__()).message_ids == [held.message_id]
    await MemoryConversations(site.tables).create(OTHER_ROOM, None, "alice", ["bob"])
    for _ in range(40):
        [accepted] = await MemoryIntake(site.tables).accept([make.draft(conversationId=OTHER_ROOM)])
        await site.handle([accepted.message])
        await site.pass_(1)
    await claim.__aexit__(None, None, None)
    await site.pass_(1)
    assert held.message_id not in site.undecided.rows
    await site.pass_(7)
    assert site.undecided.rows == {}
    assert len(site.told()) == 41


async def test_a_claim_begins_a_little_before_the_first_row_that_is_left_and_at_times_with_the_oldest():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    await site.say()
    await site.pass_(40)
    assert site.worker._floor == site.at - timedelta(seconds=due_notifications.BEHIND_S)
    late = await site.say()
    site.undecided.rows[late.message_id] = make.ROOM, site.at - timedelta(hours=1)
    await site.pass_(5)
    assert late.message_id in site.undecided.rows
    await site.pass_(due_notifications.WHOLE_EVERY_S)
    assert site.undecided.rows == {}


async def test_in_a_large_conversation_one_notification_stands_for_all_that_are_due():
    site = await Site(each_max_members=2).open("bob", "carol")
    site.registry.put("phone", "bob")
    site.registry.put("other", "carol")
    for _ in range(3):
        await site.say()
    site.tables.receipts[make.ROOM, "carol"] = (2, 0)
    await site.pass_(10)
    assert site.told() == [(1, "bob"), (3, "carol")]


async def test_a_message_that_can_never_be_decided_holds_up_no_other(monkeypatch: pytest.MonkeyPatch):
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    bad, good = await site.say("bad"), await site.say("good")
    real = HandleNotification.decide

    async def decide(self: HandleNotification, messages: Sequence[Message]) -> Sequence[AnyEvent]:
        if any(message.message_id == bad.message_id for message in messages):
            raise KeyError
        return await real(self, messages)

    monkeypatch.setattr(HandleNotification, "decide", decide)
    await site.pass_(10)
    assert site.told() == [(good.seq, "bob")]
    assert list(site.undecided.rows) == [bad.message_id]
    monkeypatch.undo()
    await site.pass_(due_notifications.POSTPONED_S)
    assert site.told() == [(bad.seq, "bob"), (good.seq, "bob")]


async def test_a_message_that_comes_again_tells_nobody_again():
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    message = await site.say()
    await site.pass_(10)
    await site.handle([message])
    await site.pass_(10)
    assert site.told() == [(1, "bob")]


async def test_a_worker_ends_when_it_is_told_to_and_logs_trouble_once(capsys: pytest.CaptureFixture[str]):
    site = await Site().open("bob")
    site.registry.put("phone", "bob")
    await site.say()
    site.log.down = True
    stopping = asyncio.Event()
    running = asyncio.create_task(site.worker.run(site.log, stopping))
    async with asyncio.timeout(5):
        while not site.worker._failing:  # noqa: ASYNC110
            await asyncio.sleep(0)
        stopping.set()
        await running
    assert capsys.readouterr().out.count("due_notifications_wait") == 1
