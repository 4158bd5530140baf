"""What fails where order matters parks its conversation; a replay brings it back in order, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.kafka.consumer import Received
from adapters.memory.log import MemoryLog
from adapters.memory.parking import MemoryParking
from domain.parking import Closed, Outcome
from schemas.codec import Record, record
from schemas.events import AnyEvent, MessageCreated, MessageSent
from schemas.ids import new_id
from schemas.topics import retry_topic
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.letters import Choice, Letter, newest
from streams.replay import Replayer, ReplayUnfinished, chosen, discard, records
from streams.retry import RetryPolicy
from streams.stage import Stage
from tests import make

ROOMS = [new_id() for _ in range(3)]
DLQ, RETRY = "analytics.dlq", retry_topic("analytics")


@dataclass
class Bench:
    """One partition of the origin topic and of the retry topic, an ordered stage that reads both, and an operator."""

    topic: list[Record] = field(default_factory=list)
    log: MemoryLog = field(default_factory=MemoryLog)
    parking: MemoryParking = field(default_factory=MemoryParking)
    failing: set[str] = field(default_factory=set)
    poison: set[tuple[str, int]] = field(default_factory=set)
    handled: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    written: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    read: int = 0
    retried: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def write(self, room: str) -> None:
        self.written[room] += 1
        event = make.created(conversation_id=room, seq=self.written[room])
        self.topic.append(record(event, producer="test"))

    async def handle(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        messages = [event.message for event in events if isinstance(event, MessageCreated)]
        for message in messages:
            if message.conversation_id in self.failing or (message.conversation_id, message.seq) in self.poison:
                raise KeyError
        for message in messages:
            self.handled[message.conversation_id].append(message.seq)
        return []

    def retries(self) -> list[Record]:
        return [r for r in self.log.records if r.topic == RETRY]

    async def work(self, count: int, retries: int = 0) -> None:
        """Handle a batch: records of the origin topic, and retries behind them."""
        stage = Stage("analytics", (MessageCreated,), (MessageSent,), self.handle, self.parking)
        live = self.topic[self.read : self.read + count]
        again = self.retries()[self.retried : self.retried + retries]
        batch = [
            *(ConsumerRecord(r.topic, 0, self.read + n, r.key, r.value, r.headers) for n, r in enumerate(live)),
            *(ConsumerRecord(r.topic, 0, self.retried + n, r.key, r.value, r.headers) for n, r in enumerate(again)),
        ]
        if batch:
            await process(stage, batch, self.log, RetryPolicy(), make.done)
        self.read += len(live)
        self.retried += len(again)

    async def letters(self) -> list[Received]:
        made = [r for r in self.log.records if r.topic == DLQ]
        return [Received(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(made)]

    async def reached(self) -> Mapping[str, int]:
        """The stage works while the operator waits."""
        self.meanwhile()
        await self.work(99, 99)
        return {f"{RETRY}/0": self.retried}

    async def now(self) -> list[Letter]:
        return newest(await self.letters(), self.parking.letters)

    async def open_letters(self) -> list[Letter]:
        return [letter for letter in await self.now() if letter.closed is None]

    async def publish(self, meanwhile: Sequence[str] = ()) -> None:
        """Publish a round as the command does it, and do not wait; others write meanwhile."""
        parked = dict(self.parking.rows)
        parts = chosen(await self.now(), parked, Choice())
        for room in meanwhile:
            self.write(room)
        for part in parts:
            await self.log.append(records("analytics", part))

    def operator(self, **more) -> Replayer:
        return Replayer("analytics", self, self.parking, self.log, **more)


async def test_a_failure_parks_its_conversation_and_no_other():
    bench, (one, two, _) = Bench(), ROOMS
    bench.failing = {one}
    for room in (one, two, one, two):
        bench.write(room)
    await bench.work(4)
    bench.failing.clear()
    bench.write(one)
    await bench.work(1)
    assert bench.handled == {two: [1, 2]}
    assert [letter.cause for letter in await bench.open_letters()] == ["KeyError", "parked", "parked"]
    verdict = await bench.operator().run(Choice())
    assert (verdict.handled, verdict.failed, verdict.waiting) == (3, {}, set())
    bench.write(one)
    await bench.work(99)
    assert bench.handled[one] == [1, 2, 3, 4]
    assert bench.parking.rows == {}
    assert await bench.open_letters() == []


async def test_a_replay_is_seen_by_its_stage_alone_with_its_first_place():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    bench.write(room)
    await bench.work(1)
    await bench.publish()
    again, end = bench.retries()
    assert {r.topic for r in bench.log.records} == {DLQ, RETRY}
    marks = dict(again.headers)
    assert (marks["replay"], marks["dlq-origin"], marks["ce_type"]) == (
        b"true",
        b"message.created/0/0",
        b"message.created",
    )
    assert (end.key, end.value, end.headers) == (room.encode(), b"", (("dlq-end", b"1"),))


async def test_what_fails_again_is_one_letter_with_one_attempt_more():
    bench, (one, two, _) = Bench(), ROOMS
    bench.failing = {one, two}
    for room in (one, one, two):
        bench.write(room)
    await bench.work(3)
    before = {letter.origin: letter.attempts for letter in await bench.now()}
    for replays in (1, 2):
        verdict = await bench.operator().run(Choice())
        assert (verdict.handled, len(verdict.failed), len(verdict.waiting)) == (0, 2, 1)
        assert verdict.causes == {"KeyError": 2}
        letters = await bench.open_letters()
        assert {letter.origin for letter in letters} == before.keys()
        failed = [letter for letter in letters if letter.cause == "KeyError"]
        assert [letter.attempts - before[letter.origin] for letter in failed] == [replays, replays]
    bench.failing.clear()
    assert (await bench.operator().run(Choice())).handled == 3
    assert bench.handled == {one: [1, 2], two: [1]}


async def test_a_replay_that_fails_again_is_not_overtaken_by_what_is_replayed_behind_it():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    for _ in range(3):
        bench.write(room)
    await bench.work(3)
    await bench.publish(meanwhile=[room])
    await bench.work(1, 1)
    bench.failing.clear()
    await bench.work(99, 99)
    assert bench.handled[room] == []
    assert {letter.origin for letter in await bench.open_letters()} == {f"message.created/0/{n}" for n in range(4)}
    await bench.operator().run(Choice())
    assert bench.handled[room] == [1, 2, 3, 4]


async def test_records_that_come_during_a_replay_follow_in_order():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    bench.write(room)
    await bench.work(1)
    bench.failing.clear()
    more = iter(range(3))

    def write() -> None:
        if next(more, None) is not None:
            bench.write(room)

    bench.meanwhile = write
    verdict = await bench.operator().run(Choice())
    await bench.work(99)
    assert (verdict.handled, bench.handled[room]) == (len(verdict.replayed), [1, 2, 3, 4])
    assert bench.parking.rows == {}


async def test_what_is_discarded_is_never_handled_and_what_waits_behind_it_is():
    bench, (one, two, _) = Bench(), ROOMS
    bench.poison = {(one, 2), (two, 1)}
    for room in (one, one, one, one, two):
        bench.write(room)
    await bench.work(99)
    operator = bench.operator()
    closed = await discard(operator, Choice(one), "forged")
    assert [letter.origin for letter in closed] == ["message.created/0/1"]
    assert (operator.verdict.handled, operator.verdict.failed) == (2, {})
    bench.write(one)
    await bench.work(99)
    assert bench.handled == {one: [1, 3, 4, 5]}
    assert bench.parking.rows.keys() == {two}
    states = {letter.origin: letter.closed for letter in await bench.now()}
    assert states["message.created/0/1"] == Closed(Outcome.DISCARDED, "forged")
    assert states["message.created/0/4"] is None


async def test_a_conversation_with_nothing_behind_its_poison_goes_on_after_a_discard():
    bench, room = Bench(), ROOMS[0]
    bench.poison = {(room, 1)}
    bench.write(room)
    await bench.work(99)
    await discard(bench.operator(), Choice(), "forged")
    bench.write(room)
    await bench.work(99)
    assert (bench.handled[room], bench.parking.rows) == ([2], {})


async def test_a_second_poison_behind_a_discarded_one_keeps_its_conversation_parked():
    bench, room = Bench(), ROOMS[0]
    bench.poison = {(room, 1), (room, 3)}
    for _ in range(4):
        bench.write(room)
    await bench.work(99)
    operator = bench.operator()
    await discard(operator, Choice(cause="KeyError"), "forged")
    assert operator.verdict.causes == {"KeyError": 1}
    assert (bench.handled[room], operator.failing) == ([2], {room})
    await discard(bench.operator(), Choice(), "forged, too")
    assert (bench.handled[room], bench.parking.rows) == ([2, 4], {})


async def test_a_parking_without_any_letter_left_ends():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    bench.write(room)
    await bench.work(1)
    bench.failing.clear()
    bench.log.records.clear()  # the topic retains a dead letter for 7 days
    await bench.operator().run(Choice())
    bench.write(room)
    await bench.work(1)
    assert (bench.handled[room], bench.parking.rows) == ([2], {})


async def test_a_cause_and_a_time_choose_letters_and_whole_conversations_where_order_matters():
    bench, (one, two, _) = Bench(), ROOMS
    bench.failing = {one}
    for room in (one, one, two):
        bench.write(room)
    bench.topic.append(Record("message.created", two.encode(), b"garbage"))
    await bench.work(99)
    letters, parked = await bench.now(), bench.parking.rows

    def origins(**fields) -> dict[str, list[str]]:
        parts = chosen(letters, parked, Choice(**fields))
        return {part.conversation_id: [letter.origin[-1] for letter in part.letters] for part in parts}

    assert origins(cause="KeyError") == {one: ["0", "1"]}
    assert origins(cause="DecodeError") == {two: ["3"]}
    assert origins(cause="nothing") == {}
    assert origins(since=letters[0].time) == origins() == {one: ["0", "1"], two: ["3"]}
    assert origins(until=letters[0].time) == origins(since="9") == {}


async def test_a_replay_of_a_stage_that_does_not_run_gives_up_and_leaves_its_letters_open():
    bench, room = Bench(), ROOMS[0]
    bench.failing = {room}
    bench.write(room)
    await bench.work(1)

    async def stands() -> Mapping[str, int]:
        return {}

    operator = bench.operator(still_s=0.0)
    bench.reached = stands
    with pytest.raises(ReplayUnfinished, match="agents list"):
        await operator.run(Choice())
    assert len(await bench.open_letters()) == 1


async def test_a_replay_keeps_to_its_rate():
    bench = Bench()
    for n in range(5):
        bench.topic.append(Record("message.created", b"key", b"garbage %d" % n))
    await bench.work(99)
    log = make.Noted()
    operator = Replayer("analytics", bench, bench.parking, log, rate=4, still_s=0.0)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ReplayUnfinished):
        await operator.run(Choice())
    assert log.appended == [4, 1]
    assert asyncio.get_running_loop().time() - began >= 0.9


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("dlq-origin", b"message.created"), ("dlq-round", b"x"), ("dlq-attempts", b"-1")),
        (("dlq-origin", b"message.sent/0/1"),),
        (("dlq-origin", b"\xff/\xff/\xff"), ("dlq-round", b"9" * 50)),
        (("dlq-end", b"-1"),),
    ],
)
async def test_headers_of_retries_that_lie_harm_nobody(headers):
    bench = Bench()
    bench.write(ROOMS[0])
    await bench.log.append([Record(RETRY, ROOMS[0].encode(), bench.topic[0].value, headers)])
    await bench.work(1, 1)
    assert bench.handled[ROOMS[0]] == [1]
    assert len(await bench.open_letters()) == 1


async def test_a_key_that_lies_is_a_dead_letter_and_parks_nobody():
    bench = Bench()
    for _ in range(2):
        bench.write(ROOMS[0])
    bench.topic[1] = Record(bench.topic[1].topic, b"\xff", bench.topic[1].value)
    await bench.work(2)
    await bench.operator().run(Choice())
    assert bench.handled[ROOMS[0]] == [1]
    assert [letter.cause for letter in await bench.open_letters()] == [
        "the key must be the id of the conversation or of the upload"
    ]
    assert bench.parking.rows == {}


class Parks(RuleBasedStateMachine):
    """Any writing, failing, working, replaying and discarding."""

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

    @rule(count=st.integers(0, 6), retries=st.integers(0, 6))
    def work(self, count: int, retries: int) -> None:
        asyncio.run(self.bench.work(count, retries))

    @rule(meanwhile=st.lists(st.sampled_from(ROOMS), max_size=3))
    def publish(self, meanwhile: list[str]) -> None:
        asyncio.run(self.bench.publish(meanwhile))

    @rule()
    def replay(self) -> None:
        asyncio.run(self.bench.operator().run(Choice()))

    @rule(back=st.integers(0, 5), retries=st.integers(0, 5))
    def crash(self, back: int, retries: int) -> None:
        """What was not committed comes again."""
        self.bench.read = max(0, self.bench.read - back)
        self.bench.retried = max(0, self.bench.retried - retries)

    @invariant()
    def first_occurrences_are_in_order_and_none_is_missing(self) -> None:
        for seqs in self.bench.handled.values():
            first = list(dict.fromkeys(seqs))
            assert first == list(range(1, len(first) + 1))

    @invariant()
    def a_record_has_one_letter(self) -> None:
        origins = [letter.origin for letter in asyncio.run(self.bench.now())]
        assert len(origins) == len(set(origins)) <= len(self.bench.topic)

    def teardown(self) -> None:
        bench = self.bench
        bench.failing.clear()
        asyncio.run(bench.work(10_000, 10_000))
        asyncio.run(bench.operator().run(Choice()))
        asyncio.run(bench.work(10_000, 10_000))
        assert asyncio.run(bench.open_letters()) == []
        assert bench.parking.rows == {}
        assert {room: max(seqs) for room, seqs in bench.handled.items()} == dict(bench.written)


TestParks = Parks.TestCase
TestParks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
