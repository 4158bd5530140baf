"""The dispatcher: the store is believed, nothing is committed before it is published, and no record ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import orjson
import pytest
import structlog
from msgspec import structs

from adapters.memory.effects import MemoryNotifications
from adapters.memory.facts import MemoryFacts
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from domain.changes import Entry
from domain.facts import Found, Wanted
from domain.notifications import NotificationDraft
from gateway import channels, dispatcher, hint_budget
from gateway.dispatcher import Dispatcher
from gateway.hint_budget import HintBudget
from gateway.publications import Publication
from runtime.metrics import RECORDS_PASSED_OVER
from schemas.codec import REPLAY, Headers, encode
from schemas.events import (
    AnyEvent,
    MediaProcessed,
    MessageSent,
    MessageStatus,
    NotificationSent,
)
from schemas.ids import new_id
from schemas.messages import Change
from tests import make

ROOM_CHANNEL = channels.messages(make.ROOM)
ELSEWHERE = "01900000-0000-7000-8000-0000000000aa"


@dataclass(frozen=True)
class Received:
    topic: str
    value: bytes | None
    key: bytes | None = make.ROOM.encode()
    partition: int = 0
    offset: int = 0
    headers: Headers = ()


def received(event: AnyEvent, **changes: object) -> Received:
    """The record of an event, with some of its fields replaced."""
    value = orjson.dumps({**orjson.loads(encode(event)), **changes})
    return Received(event.TOPIC, value, event.conversation_id.encode())


@dataclass
class Records:
    """A consumer that hands out the batches that are put into it."""

    log: list[str]
    queue: asyncio.Queue = field(default_factory=asyncio.Queue)

    async def batch(self, _: int) -> Sequence[Received]:
        return await self.queue.get()

    async def commit(self) -> None:
        self.log.append("commit")


@dataclass
class Bus:
    """A fan-out that keeps what was published, once it may."""

    log: list[str]
    go: asyncio.Event = field(default_factory=asyncio.Event)
    published: list[Publication] = field(default_factory=list)

    async def publish(self, publications: Sequence[Publication]) -> None:
        self.log.append("publish")
        await self.go.wait()
        self.published += publications
        self.log.append("published")

    def frames(self, channel: str) -> list[dict]:
        return [orjson.loads(channels.opened(data).frame) for name, data in self.published if name == channel]


@dataclass
class Stand:
    """A dispatcher on twins, at work."""

    tables: Tables
    facts: MemoryFacts
    notifications: MemoryNotifications
    records: Records
    bus: Bus
    dispatcher: Dispatcher
    task: asyncio.Task[None]
    log: list[str]

    async def until(self, *happened: str) -> None:
        """Wait until the log ends with these."""
        async with asyncio.timeout(10):
            while tuple(self.log[-len(happened) :]) != happened:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def dispatch(self, *records: Received) -> None:
        """Dispatch a batch, up to its commit."""
        self.log.clear()
        self.records.queue.put_nowait(records)
        await self.until("commit")

    async def send(self, content: str = "hi") -> MessageSent:
        [outcome] = await MemoryIntake(self.tables).accept([make.draft(content)])
        return MessageSent(message=outcome.message, sent_at=make.AT)


@asynccontextmanager
async def standing(facts: type[MemoryFacts] = MemoryFacts) -> AsyncIterator[Stand]:
    tables, log = Tables(), list[str]()
    await MemoryConversations(tables).create(make.ROOM, "The room", "alice", ["bob", "carol"])
    notifications = MemoryNotifications(tables)
    known = facts(tables, notifications)
    records, bus = Records(log), Bus(log)
    bus.go.set()
    made = Dispatcher(records, bus, known, MemoryHistory(tables))
    task = asyncio.create_task(made.run())
    try:
        yield Stand(tables, known, notifications, records, bus, made, task, log)
        assert not task.done()
    finally:
        task.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "COMMIT_S", 0.02)
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    monkeypatch.setattr(dispatcher, "RETRY_MAX_S", 0.02)


def passed_over(topic: str, cause: str) -> float:
    return RECORDS_PASSED_OVER.labels(topic, cause)._value.get()


async def test_nothing_is_committed_before_it_is_published_and_all_of_it_when_it_is_quiet():
    async with standing() as stand:
        for _ in range(2):
            stand.bus.go.clear()
            stand.log.clear()
            stand.records.queue.put_nowait([received(await stand.send())])
            await stand.until("publish")
            await asyncio.sleep(0.1)  # several times of committing pass
            assert stand.log == ["publish"]
            stand.bus.go.set()
            await stand.until("publish", "published", "commit")


async def test_what_was_told_before_goes_to_its_room_only():
    async with standing() as stand:
        told = replace(received(await stand.send()), headers=(REPLAY,))
        await stand.dispatch(told)
        assert [name for name, _ in stand.bus.published] == [ROOM_CHANNEL]


async def test_a_message_is_published_as_the_store_has_it():
    async with standing() as stand:
        sent = await stand.send("the truth")
        forged = orjson.loads(encode(sent))["message"] | {"content": "a lie", "senderId": "mallory", "status": "read"}
        await stand.dispatch(received(sent, message=forged))
        [frame] = stand.bus.frames(ROOM_CHANNEL)
        assert frame["message"] == orjson.loads(encode(sent))["message"]
        assert stand.bus.frames("user:bob:messages") == [frame]


def status(**changes: object) -> MessageStatus:
    fields = {"conversation_id": make.ROOM, "user_id": "bob", "status": "read", "seq": 1, "delivered_seq": 1}
    more = {"read_seq": 1, "at": make.AT, "notify": ("alice",)}
    return MessageStatus(**{**fields, **more, **changes})


def notified(**changes: object) -> NotificationSent:
    fields = {"conversation_id": make.ROOM, "notification_id": new_id(), "message_id": new_id(), "seq": 1}
    return NotificationSent(**{**fields, "user_id": "carol", "channel": "in_app", "at": make.AT, **changes})


def processed(**changes: object) -> MediaProcessed:
    fields = {"conversation_id": make.ROOM, "seq": 1, "message_id": new_id(), "media_id": new_id()}
    return MediaProcessed(**{**fields, "media_type": "image/png", "at": make.AT, **changes})


@pytest.mark.parametrize(
    "event",
    [
        make.sent(seq=1),  # another message has this seq
        make.sent(seq=2),
        make.sent(seq=10**9),
        make.sent(conversation_id=ELSEWHERE),
        make.member_added(1, "mallory"),
        make.member_added(2, "mallory"),
        make.member_added(1, "bob", change="member_removed"),
        make.member_added(2, "alice", change="crowned"),
        make.member_added(0, "mallory", change="created", conversation_id=ELSEWHERE, members=("bob",)),
        processed(),
        processed(seq=2),
        status(seq=2, delivered_seq=2, read_seq=2),
        status(delivered_seq=9),
        status(user_id="carol"),
        status(user_id="mallory"),
        status(status="sent"),
        status(status="forged"),
        status(conversation_id=ELSEWHERE),
        notified(),
        notified(user_id="mallory"),
    ],
)
async def test_what_the_store_does_not_have_is_shown_to_nobody(event):
    async with standing() as stand:
        await stand.send()
        stand.tables.receipts[make.ROOM, "bob"] = (1, 1)
        stand.tables.receipt_times[make.ROOM, "bob"] = (make.AT, make.AT)
        before = passed_over(event.TOPIC, "unknown")
        honest = await stand.send("honest")
        with structlog.testing.capture_logs() as logs:
            await stand.dispatch(received(event), received(honest))
        assert {name for name, _ in stand.bus.published} == {
            ROOM_CHANNEL,
            *(f"user:{user}:messages" for user in ("alice", "bob", "carol")),
        }
        assert [frame["message"]["content"] for frame in stand.bus.frames(ROOM_CHANNEL)] == ["honest"]
        assert passed_over(event.TOPIC, "unknown") == before + 1
        [line] = [entry for entry in logs if entry["event"] == "record_passed_over"]
        assert (line["topic"], line["partition"], line["offset"]) == (event.TOPIC, 0, 0)


@pytest.mark.parametrize(
    "record",
    [
        Received("message.sent", None),
        Received("message.sent", b""),
        Received("message.sent", b"\xff"),
        Received("message.sent", b"[" * 50_000),
        Received("message.sent", b"{}"),
        Received("unknown.topic", b"{}"),
        received(make.sent(), sentAt=5),
        received(make.member_added(1), seq="1"),
    ],
)
async def test_a_malformed_record_is_counted_and_passed_over_and_its_neighbours_are_not(record):
    async with standing() as stand:
        before = passed_over(record.topic, "malformed")
        await stand.dispatch(received(await stand.send("one")), record, received(await stand.send("two")))
        assert [frame["seq"] for frame in stand.bus.frames(ROOM_CHANNEL)] == [1, 2]
        assert passed_over(record.topic, "malformed") == before + 1


class Picky(MemoryFacts):
    """A store that blames the values of one conversation on its caller."""

    async def find(self, wanted: Wanted) -> Found:
        if any(id_ == REFUSED for id_, _ in wanted.entries):
            raise ValueError("invalid input syntax")
        return await MemoryFacts.find(self, wanted)


REFUSED = new_id()


async def test_a_record_whose_values_the_store_refuses_does_not_take_its_neighbours_with_it():
    async with standing(Picky) as stand:
        before = passed_over("message.sent", "refused")
        refused = received(make.sent(conversation_id=REFUSED))
        await stand.dispatch(received(await stand.send("one")), refused, received(await stand.send("two")))
        assert [frame["seq"] for frame in stand.bus.frames(ROOM_CHANNEL)] == [1, 2]
        assert passed_over("message.sent", "refused") == before + 1


async def test_while_the_store_does_not_answer_nothing_is_committed_and_then_it_goes_on():
    async with standing() as stand:
        stand.facts.down = True
        stand.records.queue.put_nowait([received(await stand.send())])
        async with asyncio.timeout(10):
            while stand.facts.queries < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # several times of committing pass
        assert stand.log == []
        stand.facts.down = False
        await stand.until("publish", "published", "commit")
        assert [frame["seq"] for frame in stand.bus.frames(ROOM_CHANNEL)] == [1]


async def test_a_batch_asks_the_store_once():
    async with standing() as stand:
        events = [received(await stand.send(str(number))) for number in range(50)]
        await stand.dispatch(*events, received(status()), received(notified()))
        assert stand.facts.queries == 1
        assert [frame["seq"] for frame in stand.bus.frames(ROOM_CHANNEL)] == list(range(1, 51))


async def test_a_creation_is_told_to_members_with_what_the_store_has():
    async with standing() as stand:
        forged = make.member_added(0, "mallory", change="created", title="Your bank", members=("bob", "victim"))
        await stand.dispatch(received(forged))
        [(channel, _)] = stand.bus.published
        assert channel == "user:bob:messages"
        [frame] = stand.bus.frames(channel)
        assert (frame["title"], frame["userId"], frame["by"]) == ("The room", "alice", "alice")


async def test_a_watermark_is_told_to_members_only_and_as_it_was_stored():
    async with standing() as stand:
        sent = await stand.send()
        other = new_id()
        stand.tables.receipts[make.ROOM, "bob"] = (1, 1)
        stand.tables.receipt_times[make.ROOM, "bob"] = (make.AT, make.AT)
        lie = status(at="1999-01-01T00:00:00.000Z", notify=("alice", "victim"), message_ids=(other,))
        await stand.dispatch(received(lie))
        assert {name for name, _ in stand.bus.published} == {"user:alice:messages", "user:bob:messages"}
        [frame] = stand.bus.frames("user:alice:messages")
        assert frame["at"] == make.AT
        assert "messageId" not in frame
        id_ = sent.message.message_id
        for stored, reached, told in (
            ("sent", "read", None),
            ("read", "read", id_),
            ("read", "delivered", None),  # it has moved on, by a receipt of another
            ("delivered", "delivered", id_),
        ):
            stand.tables.messages[id_] = structs.replace(stand.tables.messages[id_], status=stored)
            await stand.dispatch(received(status(status=reached, message_ids=(id_,))))
            assert stand.bus.frames("user:alice:messages")[-1].get("messageId") == told


async def test_a_notification_is_told_to_its_recipient_as_it_was_stored():
    async with standing() as stand:
        sent = await stand.send()
        stored = NotificationDraft(new_id(), sent.message.message_id, make.ROOM, 1, "carol")
        await stand.notifications.add([stored])
        await stand.dispatch(received(notified(notification_id=stored.notification_id, seq=7, message_id=new_id())))
        [frame] = stand.bus.frames("user:carol:notifications")
        assert (frame["seq"], frame["messageId"]) == (1, sent.message.message_id)
        await MemoryConversations(stand.tables).remove(make.ROOM, "carol", "alice")
        stand.bus.published.clear()
        await stand.dispatch(received(notified(notification_id=stored.notification_id)))
        assert stand.bus.published == []


async def test_an_entry_of_a_kind_of_a_later_release_passes_through_in_its_place():
    async with standing() as stand:
        await stand.send()
        entry = make.member_added(2, "alice", change="title_changed")
        data = {"title": "new", "by": "alice"}
        change = Change(conversation_id=make.ROOM, seq=2, kind="title_changed", data=data)
        stand.tables.append(Entry(change, None))
        await stand.dispatch(received(entry))
        [frame] = stand.bus.frames(ROOM_CHANNEL)
        assert frame == {
            "type": "conversation_changed",
            "change": "title_changed",
            "conversationId": make.ROOM,
            "seq": 2,
            "title": "new",
            "by": "alice",
        }


async def test_hints_that_are_held_back_follow_and_then_nothing_wakes_the_dispatcher():
    async with standing() as stand:
        stand.dispatcher._budget = HintBudget(per_s=30.0, burst_s=0.0)
        for text in ("one", "two", "three"):
            await stand.dispatch(received(await stand.send(text)))
        async with asyncio.timeout(5):
            while [frame["seq"] for frame in stand.bus.frames("user:bob:messages")][-1] != 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            while stand.dispatcher._held.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not stand.dispatcher._uncommitted.is_set()


def test_hints_that_are_held_back_are_not_for_who_was_removed_meanwhile():
    budget, hints = HintBudget(), [(f"user:{n}:messages", b"x") for n in range(500)]
    assert budget.spend("c", hints, 0.0)
    assert budget.spend("c", hints, 0.1) == []
    budget.without("c", "user:7:messages")
    assert budget.due(99.0) == [hint for hint in hints if hint[0] != "user:7:messages"]


def test_small_conversations_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hint_budget, "_MOST_KNOWN", 10)
    budget = HintBudget()
    for number in range(100):
        assert budget.spend(str(number), [("user:a:messages", b"x")], float(number))
    assert len(budget._free_at) <= 11
