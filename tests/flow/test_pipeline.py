"""The whole way in one process, without a server: from a draft to a frame on every socket. Read this one first."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from adapters.memory.effects import MemoryCounts, MemoryNotifications, MemoryStatuses
from adapters.memory.facts import MemoryFacts
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog, MemoryReceiptProgress
from adapters.memory.messages import MemoryMessages, MemoryReceipts
from adapters.memory.parking import MemoryParking
from adapters.memory.redis import MemoryRegistry
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.memory.undecided import MemoryUndecided
from gateway import channels
from gateway.channels import Envelope
from gateway.channels import opened as envelope_of
from gateway.confirmation import fact_of, wanted_by
from gateway.hub import Hub
from gateway.publications import READS, publications_of
from gateway.room import Socket
from ingest.accept import Accept
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from schemas.codec import REPLAY, decode, record
from schemas.events import ReceiptRecorded
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.retry import RetryPolicy
from streams.stage import Stage
from streams.stages import analytics, notification, search, status
from tests import make


@dataclass
class Screen:
    """What a socket was sent."""

    got: list[dict] = field(default_factory=list)

    def write(self, frame: bytes) -> bool:
        self.got.append(orjson.loads(frame))
        return True


@dataclass
class Mill:
    """All parts, with their twins."""

    tables: Tables = field(default_factory=Tables)
    log: MemoryLog = field(default_factory=MemoryLog)
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    undecided: MemoryUndecided = field(default_factory=MemoryUndecided)
    hub: Hub = field(default_factory=Hub)
    read: dict[str, int] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.accept = Accept(MemoryIntake(self.tables), lambda _: None)
        self.notifications = MemoryNotifications(self.tables)
        messages = MemoryMessages(self.tables)
        progress = MemoryReceiptProgress(self.log, lambda: self.read.get("status", 0))
        self.stages = [
            status.create(MemoryStatuses(self.tables)),
            notification.create(self.notifications, self.registry, messages, self.undecided, progress),
            analytics.create(MemoryCounts(), MemoryParking(), messages),
            search.create(MemorySearch(self.tables), messages),
        ]

    def connect(self, user: str) -> Screen:
        """A socket that has joined the room from its start."""
        screen = Screen()
        place = self.hub.subscribe(Socket(user, user, screen), make.ROOM)
        place.room.buffer.start(0, 0)
        place.room.go_live(place)
        self.registry.put(user, user)
        return screen

    async def turn(self) -> None:
        """Relay, stages, dispatch: until nothing is left to do."""
        await self.relay()
        for stage in self.stages:
            await self._work(stage)
        await self._dispatch()

    async def relay(self) -> None:
        outbox = MemoryOutbox(self.tables)
        await outbox.claim()
        relay = Relay(lambda: None, self.log, LossDetector(self.log))
        await relay.publish(outbox)
        await relay.mark(outbox)

    async def read_by(self, user: str, seq: int) -> None:
        """A receipt by POST, which goes through the outbox, and all that follows from it."""
        receipt = ReceiptRecorded(conversation_id=make.ROOM, user_id=user, delivered_seq=seq, read_seq=seq, at=make.AT)
        await MemoryReceipts(self.tables).record(receipt)
        await self.turn()

    def to_users(self) -> list[Envelope]:
        """What was published to users, and not to a room."""
        return [envelope_of(data) for channel, data in self.published if channel.startswith("user:")]

    async def _work(self, stage: Stage) -> None:
        topics = {kind.TOPIC for kind in stage.reads}
        fresh = self.log.records[self.read.get(stage.name, 0) :]
        self.read[stage.name] = len(self.log.records)
        batch = [
            ConsumerRecord(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(fresh) if r.topic in topics
        ]
        await process(stage, batch, self.log, RetryPolicy(), make.done)

    async def _dispatch(self) -> None:
        topics = {kind.TOPIC for kind in READS}
        fresh = [r for r in self.log.records[self.read.get("gateway", 0) :] if r.topic in topics]
        events = [decode(made.topic, made.key, made.value) for made in fresh]
        found = await MemoryFacts(self.tables, self.notifications).find(wanted_by(events))
        for made, event in zip(fresh, events, strict=True):
            fact = fact_of(event, found)
            assert fact is not None, event
            publications = publications_of(fact, is_replay=REPLAY in made.headers)
            published = publications.certain
            if publications.hint is not None:
                members = self.tables.members[publications.hint.conversation_id]
                published += tuple((channels.user_messages(user), publications.hint.envelope) for user in members)
            room = self.hub.rooms.get(make.ROOM)
            for channel, data in published:
                if room is not None and channel == channels.messages(make.ROOM):
                    envelope = envelope_of(data)
                    for seq, released in room.buffer.push(envelope.seq, envelope, 0):
                        room.release(seq, released.frame)
            self.published += published
        self.read["gateway"] = len(self.log.records)


async def opened() -> Mill:
    mill = Mill()
    await MemoryConversations(mill.tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    return mill


async def test_a_message_reaches_every_socket_in_order_and_notifies_who_is_away():
    mill = await opened()
    alice, bob = mill.connect("alice"), mill.connect("bob")
    for text in ("one", "two"):
        await mill.accept(make.draft(text))
    await mill.turn()
    for screen in (alice, bob):
        assert [(f["seq"], f["message"]["content"], f["message"]["status"]) for f in screen.got] == [
            (1, "one", "sent"),
            (2, "two", "sent"),
        ]
    assert {e.user_id for e in mill.log.events("notification.sent")} == {"carol"}
    assert [e.messages for e in mill.log.events("analytics.conversation")] == [2]
    assert len(mill.log.events("search.indexed")) == 2


async def test_a_receipt_tells_the_sender_that_it_was_read():
    mill = await opened()
    mill.connect("bob")
    accepted = await mill.accept(make.draft("one"))
    await mill.turn()
    read = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, read_seq=1, at=make.AT)
    await mill.log.append([record(read, producer="gateway")])
    await mill.turn()
    assert mill.tables.messages[accepted.message.message_id].status == "read"
    to_alice = [orjson.loads(envelope_of(data).frame) for ch, data in mill.published if ch == "user:alice:messages"]
    assert [f["status"] for f in to_alice if f["type"] == "message_status"] == ["delivered", "read"]


async def test_nobody_is_told_twice_of_what_is_published_again():
    """alice is connected and sees hints only, bob has joined, carol is away and has a notification."""
    mill = await opened()
    mill.registry.put("alice", "alice")
    bob = mill.connect("bob")
    await mill.accept(make.draft("one"))
    await mill.turn()
    await mill.read_by("bob", 1)
    users = [channel for channel, _ in mill.published if channel.startswith("user:")]
    assert {"user:carol:notifications", "user:alice:messages"} <= set(users)
    notified = len(mill.log.events("notification.sent"))
    for row in mill.tables.outbox.values():
        row.published, row.replay = False, True
    mill.published.clear()
    await mill.accept(make.draft("two"))
    await mill.turn()
    assert {(envelope.kind, envelope.seq) for envelope in mill.to_users()} == {("message", 2), ("notification", 2)}
    assert [f["seq"] for f in bob.got] == [1, 2]
    assert len(mill.log.events("notification.sent")) == notified + 1
    assert [r.topic for r in mill.log.records if REPLAY in r.headers].count("message.sent") == 1


async def test_a_log_that_lost_its_records_is_filled_again_and_tells_only_what_was_never_told():
    mill = await opened()
    mill.registry.put("alice", "alice")
    await mill.accept(make.draft("one"))
    await mill.turn()
    await mill.accept(make.draft("two"))
    await mill.relay()  # and no stage gets it before the log is lost
    mill.log.records.clear()
    mill.read.clear()
    mill.tables.epoch += 1
    for row in mill.tables.outbox.values():
        row.published, row.replay = False, True
    mill.published.clear()
    await mill.turn()
    assert [e.message.seq for e in mill.log.events("message.sent")] == [1, 2]
    assert [e.seq for e in mill.log.events("notification.sent")] == [1, 1, 2, 2]
    assert {envelope.seq for envelope in mill.to_users()} == {2}


async def test_the_same_events_again_change_nothing_on_a_screen():
    mill = await opened()
    bob = mill.connect("bob")
    await mill.accept(make.draft("one"))
    await mill.turn()
    mill.read.clear()  # every consumer starts again at the beginning
    await mill.turn()
    assert [f["seq"] for f in bob.got] == [1]
    assert len({e.event_id for e in mill.log.events("notification.sent")}) == 1
