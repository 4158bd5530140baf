"""What fails where order matters parks its conversation; a replay brings it back in order, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.kafka.consumer import Received
from adapters.memory.log import MemoryLog
from adapters.memory.parking import MemoryParking
from schemas.codec import Record, record
from schemas.events import AnyEvent, MessageCreated, MessageSent
from schemas.ids import new_id
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.replay import _by_conversation, _letter, records
from streams.retry import RetryPolicy
from streams.stage import Stage
from tests import make

ROOMS = [new_id() for _ in range(3)]
DLQ = "analytics.dlq"


@dataclass
class Bench:
    """One partition of the origin topic, an ordered stage that reads it, and an operator."""

    topic: list[Record] = field(default_factory=list)
    log: MemoryLog = field(default_factory=MemoryLog)
    parking: MemoryParking = field(default_factory=MemoryParking)
    failing: set[str] = field(default_factory=set)
    handled: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    written: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    replayed: set[str] = field(default_factory=set)
    read: int = 0

    def write(self, room: str) -> None:
        self.written[room] += 1
        event = make.created(conversation_id=room, seq=self.written[room])
        self.topic.append(record(event, producer="test"))

    async def handle(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        messages = [event.message for event in events if isinstance(event, MessageCreated)]
        if any(message.conversation_id in self.failing for message in messages):
            raise KeyError
        for message in messages:
            self.handled[message.conversation_id].append(message.seq)
        return []

    def work(self, count: int) -> None:
        stage = Stage("analytics", (MessageCreated,), (MessageSent,), self.handle, self.parking)
        batch = [
            ConsumerRecord(r.topic, 0, self.read + n, r.key, r.value, r.headers)
            for n, r in enumerate(self.topic[self.read : self.read + count])
        ]
        self.read += len(batch)
        asyncio.run(process(stage, batch, self.log, RetryPolicy(), make.done))

    def open_letters(self, known: int | None = None):
        made = [r for r in self.log.records if r.topic == DLQ][:known]
        got = [Received(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(made)]
        return [one for one in (_letter(g, frozenset(self.replayed)) for g in got) if not one.replayed]

    def replay(self, meanwhile: Sequence[str] = ()) -> None:
        """A round, as the command does it: the parked are read, then the letters; others write meanwhile."""
        parked = dict(self.parking.rows)
        chosen = _by_conversation(self.open_letters())
        for room in meanwhile:
            self.write(room)
        for room, letters in chosen.items():
            self.topic += records(letters, "analytics", parked.get(room))
            self.replayed |= {letter.id for letter in letters}


def test_a_failure_parks_its_conversation_and_no_other():
    bench, (one, two, _) = Bench(), ROOMS
    bench.failing = {one}
    for room in (one, two, one, two):
        bench.write(room)
    bench.work(4)
    bench.failing.clear()
    bench.write(one)
    bench.work(1)
    assert bench.handled == {two: [1, 2]}
    assert [letter.cause for letter in bench.open_letters()] == ["KeyError", "parked", "parked"]
    bench.replay()
    bench.write(one)
    bench.work(99)
    assert bench.handled[one] == [1, 2, 3, 4]
    assert bench.parking.rows == {}
    assert bench.open_letters() == []


def test_a_replay_that_fails_again_is_not_overtaken_by_what_is_replayed_behind_it():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    for _ in range(3):
        bench.write(room)
    bench.work(3)
    bench.replay(meanwhile=[room])
    bench.work(2)
    bench.failing.clear()
    bench.work(99)
    assert bench.handled[room] == []
    assert [letter.origin for letter in bench.open_letters()] == [f"message.created/0/{n}" for n in (3, 0, 1, 2)]
    bench.replay()
    bench.work(99)
    assert bench.handled[room] == [1, 2, 3, 4]


def test_headers_that_lie_harm_nobody():
    bench = Bench()
    bench.write(ROOMS[0])
    marks = (("dlq-replayed", b"analytics"), ("dlq-round", b"x"), ("dlq-last", b"-1"))
    bench.topic[0] = Record(bench.topic[0].topic, bench.topic[0].key, bench.topic[0].value, marks)
    bench.work(1)
    assert bench.handled[ROOMS[0]] == [1]


def test_a_key_that_lies_is_a_dead_letter_and_parks_nobody():
    bench = Bench()
    bench.write(ROOMS[0])
    bench.write(ROOMS[0])
    bench.topic[1] = Record(bench.topic[1].topic, b"\xff", bench.topic[1].value, (("dlq-replayed", b"analytics"),))
    bench.work(2)
    assert bench.handled[ROOMS[0]] == [1]
    assert [letter.cause for letter in bench.open_letters()] == ["the key must be the conversation id"]
    assert bench.parking.rows == {}


class Parks(RuleBasedStateMachine):
    """Any writing, failing, working and replaying."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()

    @rule(room=st.sampled_from(ROOMS), count=st.integers(1, 4))
    def write(self, room: str, count: int) -> None:
        for _ in range(count):
            self.bench.write(room)

    @rule(room=st.sampled_from(ROOMS))
    def break_or_mend(self, room: str) -> None:
        self.bench.failing ^= {room}

    @rule(count=st.integers(1, 6))
    def work(self, count: int) -> None:
        self.bench.work(count)

    @rule(meanwhile=st.lists(st.sampled_from(ROOMS), max_size=3))
    def replay(self, meanwhile: list[str]) -> None:
        self.bench.replay(meanwhile)

    @rule(back=st.integers(1, 5))
    def crash(self, back: int) -> None:
        """What was not committed comes again."""
        self.bench.read = max(0, self.bench.read - back)

    @invariant()
    def first_occurrences_are_in_order_and_none_is_missing(self) -> None:
        for seqs in self.bench.handled.values():
            first = list(dict.fromkeys(seqs))
            assert first == list(range(1, len(first) + 1))

    def teardown(self) -> None:
        bench = self.bench
        bench.failing.clear()
        bench.work(10_000)
        while bench.open_letters():
            bench.replay()
            bench.work(10_000)
        assert {room: max(seqs) for room, seqs in bench.handled.items()} == dict(bench.written)


TestParks = Parks.TestCase
TestParks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
