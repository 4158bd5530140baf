"""Records of strangers: whatever stands in a topic, no stage fails, and the neighbours are handled as without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.log import MemoryLog
from adapters.memory.media import MemoryMedia
from adapters.memory.tables import Tables
from domain.analytics import Counts
from domain.media import Media, MediaFiles
from domain.notifications import Notifications
from domain.parking import Parking
from domain.search import Index
from schemas.codec import record
from schemas.events import MediaUploaded, MessageCreated, ReceiptRecorded
from schemas.fields import MAX_SEQ
from schemas.ids import new_id
from schemas.topics import stages
from streams.batch import Result, process
from streams.dead_letters import ConsumerRecord
from streams.retry import RetryPolicy
from tests import make
from tests.flow.test_topic_declarations import built, twins_of

UPLOAD = new_id()
FILE = {"mediaId": UPLOAD, "name": "a.png", "type": "image/png", "size": 3}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "\0", "\x1b[31m", "staging-42", "x" * 300_000, "-1", "2026-02-30T00:00:00.000Z", make.ROOM]),
    st.sampled_from([0, -1, 1, 2, 99, MAX_SEQ, MAX_SEQ + 1]),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.builds(new_id),
)
KEYS = st.sampled_from([make.ROOM.encode(), None, b"", b"\xff", b"staging-42", new_id().encode()])


@cache
def filled() -> Tables:
    """Return a store with a conversation of three messages, the same for every house."""
    tables = Tables()

    async def fill() -> None:
        upload = Media(media_id=UPLOAD, owner_id="alice", file_name="a", declared_type="x/y", size=1, sha256="a" * 64)
        await MemoryMedia(tables).add(upload)
        await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
        await MemoryIntake(tables).accept([make.draft("a fox", attachments=[UPLOAD]) for _ in range(3)])

    asyncio.run(fill())
    return tables


class House:
    """A stage, alone on twins of the store and the log."""

    def __init__(self, name: str) -> None:
        self.tables, self.log, self.room = deepcopy(filled()), MemoryLog(), make.ROOM
        self.twin: Callable[[Any], Any] = twins_of(self.tables)
        self.stage = built(name, self.twin)

    def truth(self) -> list[Any]:
        """Return a true record of each kind that the stage reads."""
        messages = sorted(self.tables.messages.values(), key=lambda message: message.seq)
        events: dict[str, list[Any]] = {
            MediaUploaded.TOPIC: [MediaUploaded(media_id=UPLOAD, owner_id="alice", size=1, at=make.AT)],
            MessageCreated.TOPIC: [MessageCreated(message=message) for message in messages],
            ReceiptRecorded.TOPIC: [
                ReceiptRecorded(conversation_id=self.room, user_id="bob", delivered_seq=3, read_seq=2, at=make.AT)
            ],
        }
        return [event for kind in self.stage.reads for event in events[kind.TOPIC]]

    def process(self, records: list[ConsumerRecord]) -> Result:
        """Process one batch; return what came of it, as the worker sees it."""
        whole, acknowledged = Result(), list[ConsumerRecord]()

        def done(part: Any, result: Result) -> None:
            acknowledged.extend(part)
            whole.dropped += result.dropped

        asyncio.run(process(self.stage, records, self.log, RetryPolicy(), done))
        assert acknowledged == records
        return whole

    @property
    def origins(self) -> list[int]:
        """Offsets of the records in the dead letters."""
        letters = [dict(r.headers) for r in self.log.records if r.topic == self.stage.dead_letters]
        return [int(letter["dlq-origin"].rsplit(b"/", 1)[1]) for letter in letters]

    def state(self) -> Any:
        """Return all that the stage keeps."""
        counts, index, notices, files, parking = (
            self.twin(port) for port in (Counts, Index, Notifications, MediaFiles, Parking)
        )
        return (
            dict(counts.totals),
            dict(counts.cursors),
            {id_: message.content for id_, message in index.documents.items()},
            set(notices.drafts),
            set(files.processed),
            set(parking.rows),
            dict(self.tables.receipts),
            {id_: message.status for id_, message in self.tables.messages.items()},
            self.tables.conversations[self.room].last_seq,
        )


def consumed(event: Any, offset: int) -> ConsumerRecord:
    made = record(event, producer="test")
    return ConsumerRecord(made.topic, 3, offset, made.key, made.value, made.headers)


def fields_of(value: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of each field, also of those within others."""
    found = []
    for name, inner in value.items():
        found.append((*path, name))
        if isinstance(inner, dict):
            found += fields_of(inner, (*path, name))
    return found


def replaced(value: dict[str, Any], path: tuple[str, ...], odd: Any) -> dict[str, Any]:
    name, *rest = path
    return {**value, name: replaced(value[name], tuple(rest), odd) if rest else odd}


def claims() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return (stage, topic, field) for all fields of all records that a stage reads."""
    return [
        (name, event.TOPIC, path)
        for name in stages()
        for event in {type(event): event for event in House(name).truth()}.values()
        for path in fields_of(msgspec.to_builtins(event))
    ]


@pytest.mark.parametrize(
    ("name", "topic", "path"), claims(), ids=lambda each: ".".join(each) if isinstance(each, tuple) else each
)
@given(odd=ODD, key=KEYS)
@settings(max_examples=8, deadline=None)
def test_an_odd_field_fails_no_stage_and_leaves_its_neighbours_as_they_are(name, topic, path, odd, key):
    alone, house = House(name), House(name)
    truth = [consumed(event, offset) for offset, event in enumerate(house.truth())]
    alone.process(truth)
    template = next(event for event in house.truth() if topic == event.TOPIC)
    value = msgspec.json.encode(replaced(msgspec.to_builtins(template), path, odd))
    bad = ConsumerRecord(topic, 3, 1_000, key, value)
    with structlog.testing.capture_logs() as lines:
        result = house.process([truth[0], bad, *truth[1:]])
    assert set(house.origins) <= {1_000}
    told = [(line["topic"], line["partition"], line["offset"]) for line in lines if line["event"] == "record_set_aside"]
    assert told == [(topic, 3, 1_000)] * len(house.origins)
    assert len(house.origins) + result.dropped <= 1
    if house.origins or topic == MessageCreated.TOPIC:  # a receipt that is in bounds is a receipt
        assert house.state() == alone.state()
    sent = [event.message for event in house.log.events("message.sent")]
    assert {message.content for message in sent} <= {"a fox"}


FOREIGN: list[dict[str, Any]] = [
    {"messageId": new_id(), "seq": 4, "content": "I never said this"},
    {"messageId": new_id(), "seq": 1, "content": "I never said this"},
    {"messageId": new_id(), "seq": MAX_SEQ, "attachments": [FILE]},
    {"seq": 3, "content": "I never said this"},
    {"conversationId": new_id()},
    {"messageId": new_id(), "conversationId": new_id(), "senderId": "mallory", "type": "poll"},
]


@pytest.mark.parametrize("name", stages())
@pytest.mark.parametrize("changes", FOREIGN)
def test_a_record_about_what_the_store_does_not_have_has_no_effect(name, changes):
    house = House(name)
    before = house.state()
    created = next(event for event in house.truth() if isinstance(event, MessageCreated))
    fields = {**msgspec.to_builtins(created.message), **changes}
    key = fields["conversationId"].encode()
    house.process([ConsumerRecord("message.created", 3, 1_000, key, msgspec.json.encode({"message": fields}))])
    assert house.state() == before
    assert house.origins == [1_000]
    assert [r.topic for r in house.log.records] == [house.stage.dead_letters]


@pytest.mark.parametrize("name", stages())
def test_a_record_with_another_content_is_handled_as_the_store_has_it(name):
    alone, house = House(name), House(name)
    truth = [consumed(event, offset) for offset, event in enumerate(house.truth())]
    alone.process(truth)
    forged = {
        "content": "I never said this",
        "senderId": "bob",
        "type": "poll",
        "attachments": [],
        "createdAt": make.AT,
    }
    lies = [
        each
        if each.topic != "message.created"
        else ConsumerRecord(
            each.topic,
            3,
            each.offset,
            each.key,
            msgspec.json.encode({"message": {**msgspec.json.decode(each.value or b"")["message"], **forged}}),
        )
        for each in truth
    ]
    house.process(lies)
    assert house.state() == alone.state()
    assert {event.message.content for event in house.log.events("message.sent")} <= {"a fox"}
