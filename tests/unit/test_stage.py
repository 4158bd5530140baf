"""The life of a batch: nothing is acknowledged before its effect, its completion or its dead letter is in."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from adapters.memory.log import MemoryLog
from domain.errors import Rejected, Unavailable
from schemas.codec import REPLAY, record
from schemas.events import AnyEvent, MessageCreated, MessageSent
from streams import batch as stages
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.failures import Failure, failure_of
from streams.retry import PartitionRevoked, RetriesExhausted, RetryPolicy
from streams.stage import Missing, Refused, Stage, Unfinished
from tests import make

QUICK = RetryPolicy(total_s=0.2, attempt_s=0.1, first_s=0.001, most_s=0.01)


def taken(event: AnyEvent, offset: int = 0) -> ConsumerRecord:
    made = record(event, producer="test")
    return ConsumerRecord(made.topic, 3, offset, made.key, made.value, made.headers)


def stage(handle) -> Stage:
    return Stage("status", (MessageCreated,), (MessageSent,), handle)


async def echo(events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    return [make.sent(message_id=e.message.message_id, seq=e.message.seq) for e in events]


def seqs(log: MemoryLog) -> list[int]:
    return [event.message.seq for event in log.events("message.sent")]


async def test_completions_come_in_the_order_of_the_batch():
    log = MemoryLog()
    await process(stage(echo), [taken(make.created(seq=n)) for n in (1, 2, 3)], log, QUICK, make.done)
    assert seqs(log) == [1, 2, 3]


@pytest.mark.parametrize("value", [None, b"", b"garbage", b"{}", b"[" * 100_000])
async def test_bytes_that_are_no_event_become_a_dead_letter_and_spare_the_others(value):
    log = MemoryLog()
    bad = ConsumerRecord("message.created", 3, 41, b"key", value, (("ce_id", b"7"),))
    await process(stage(echo), [taken(make.created(seq=1)), bad, taken(make.created(seq=2))], log, QUICK, make.done)
    assert seqs(log) == [1, 2]
    [letter] = [r for r in log.records if r.topic == "status.dlq"]
    assert (letter.key, letter.value) == (b"key", value or b"")
    headers = dict(letter.headers)
    assert headers["dlq-origin"] == b"message.created/3/41"
    assert headers["dlq-stage"] == b"status"
    assert headers["ce_id"] == b"7"
    assert headers["dlq-cause"]


async def test_a_record_that_can_never_work_is_found_and_set_aside():
    async def handle(events):
        if any(e.message.content == "poison" for e in events):
            raise KeyError("the content is: poison")
        return await echo(events)

    log = MemoryLog()
    batch = [taken(make.created(seq=n, content="poison" if n == 3 else "hi"), n) for n in range(1, 8)]
    await process(stage(handle), batch, log, QUICK, make.done)
    assert seqs(log) == [1, 2, 4, 5, 6, 7]
    [letter] = [r for r in log.records if r.topic == "status.dlq"]
    assert dict(letter.headers)["dlq-origin"] == b"message.created/3/3"
    assert dict(letter.headers)["dlq-cause"] == b"KeyError"  # never its text: it may hold content


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_record_is_tried_again_alone_before_it_is_set_aside(size):
    tries: list[int] = []

    async def handle(events):
        tries.append(len(events))
        raise KeyError

    log = MemoryLog()
    await process(stage(handle), [taken(make.created(seq=n + 1), n) for n in range(size)], log, QUICK, make.done)
    letters = [dict(letter.headers) for letter in log.records]
    assert [h["dlq-origin"] for h in letters] == [b"message.created/3/%d" % n for n in range(size)]
    assert all(int(h["dlq-attempts"]) >= 2 for h in letters)
    assert tries.count(1) >= size


async def test_a_failure_that_passes_makes_no_dead_letter():
    tries = 0

    async def handle(events):
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError
        return await echo(events)

    log = MemoryLog()
    await process(stage(handle), [taken(make.created(seq=1))], log, QUICK, make.done)
    assert [r.topic for r in log.records] == ["message.sent"]


async def test_our_own_refusals_are_named():
    async def handle(_):
        raise Rejected("no such conversation")

    log = MemoryLog()
    await process(stage(handle), [taken(make.created())], log, QUICK, make.done)
    assert b"no such conversation" in dict(log.records[0].headers)["dlq-cause"]
    assert "dlq-stack" not in dict(log.records[0].headers)


async def test_a_completion_that_people_were_told_of_carries_the_replay_header_and_no_other():
    """Message 1 is published again and sent already, 2 is published again and was never sent, 3 is new."""
    asked: list[int] = []

    async def told(events: Sequence[AnyEvent]) -> Collection[str]:
        asked.extend(e.message.seq for e in events)
        return {f"{e.message.message_id}:sent" for e in events if e.message.seq == 1}

    async def handle(events):
        return [make.sent(message_id=e.message.message_id, seq=e.message.seq) for e in events]

    batch = [taken(make.created(seq=n), n) for n in (1, 2, 3)]
    batch = [replace(c, headers=(*c.headers, REPLAY)) if c.offset < 3 else c for c in batch]
    log = MemoryLog()
    await process(replace(stage(handle), told=told), batch, log, QUICK, make.done)
    assert asked == [1, 2]
    assert [REPLAY in written.headers for written in log.records] == [True, False, False]


async def test_completions_that_the_log_has_are_not_written_again():
    class Once:
        """Has published nothing at first; a crash comes before ``done``."""

        def __init__(self) -> None:
            self.ids: set[str] = set()

        async def missing(self, completions: Sequence[AnyEvent]) -> Missing:
            return Missing([event for event in completions if event.event_id not in self.ids], 0)

        async def done(self, written: Missing) -> None:
            self.ids |= {event.event_id for event in written.completions}

    log, once = MemoryLog(), Once()
    batch = [taken(make.created(seq=n), n) for n in (1, 2)]
    log.down = True
    with pytest.raises(RetriesExhausted):
        await process(replace(stage(echo), publication=once), batch, log, QUICK, make.done)
    log.down = False
    for _ in range(2):
        await process(replace(stage(echo), publication=once), batch, log, QUICK, make.done)
    assert seqs(log) == [1, 2]


async def test_a_bug_leaves_its_stack_in_the_letter_and_once_in_the_log_without_a_value():
    async def handle(events):
        secret = events[0].message.content
        if "poison" in secret:
            int(secret)
        return []

    log = MemoryLog()
    batch = [taken(make.created(seq=n, content=f"poison {n}"), n) for n in range(1, 4)]
    with capture_logs() as logged:
        await process(stage(handle), batch, log, QUICK, make.done)
    letters = [dict(letter.headers) for letter in log.records]
    assert [h["dlq-cause"] for h in letters] == [b"ValueError"] * 3
    innermost = letters[0]["dlq-stack"].decode().splitlines()[-1]
    assert re.fullmatch(r"\S*test_stage:\d+ test_a_bug_leaves_\S+handle", innermost)
    assert not any(b"poison" in value for h in letters for value in h.values())
    [failed] = [entry for entry in logged if entry["event"] == "record_failed"]
    assert (failed["log_level"], failed["records"], failed["offset"], failed["reason"]) == (
        "warning",
        3,
        1,
        "ValueError",
    )
    assert failed["stack"].endswith(innermost)
    assert "poison" not in str(failed)


def test_a_store_that_refuses_a_value_is_named_by_its_constraint():
    @dataclass
    class Diagnosis:
        sqlstate: str = "23514"
        constraint_name: str = "refused"
        message_detail: str = "Failing row contains (secret)."

    class CheckViolation(Exception):
        diag = Diagnosis()

    failure = failure_of(CheckViolation("secret"))
    assert failure == Failure("CheckViolation", "", "sqlstate 23514, constraint refused")
    assert failure.about == {"detail": "sqlstate 23514, constraint refused"}


async def test_transient_trouble_is_waited_out():
    tries = 0

    async def handle(events):
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Unavailable("not now")
        return await echo(events)

    log = MemoryLog()
    await process(stage(handle), [taken(make.created(seq=1))], log, QUICK, make.done)
    assert (tries, seqs(log)) == (4, [1])


async def test_a_batch_that_is_too_large_for_its_time_is_done_in_parts_and_in_order():
    async def handle(events):
        if len(events) > 3:
            await asyncio.Event().wait()
        return await echo(events)

    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in range(1, 11)]
    await process(stage(handle), batch, log, replace(QUICK, attempt_s=0.02), make.done)
    assert seqs(log) == list(range(1, 11))


async def test_what_is_done_is_acknowledged_before_the_rest_of_its_batch_and_not_done_again():
    handled: list[int] = []
    done: list[int] = []

    async def handle(events):
        if len(events) > 2:
            await asyncio.Event().wait()
        if events[-1].message.seq > 6:
            raise Unavailable("gone")
        handled.extend(event.message.seq for event in events)
        return await echo(events)

    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in range(1, 11)]
    with pytest.raises(RetriesExhausted):
        await process(
            stage(handle),
            batch,
            log,
            replace(QUICK, attempt_s=0.02),
            lambda part, _: done.extend(record.offset for record in part),
        )
    assert handled == done == seqs(log) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [2, 10, 500])
async def test_a_batch_is_split_down_to_one_record_within_half_a_minute(size):
    """Attempts last 10 s, and the worker counts as stuck after a minute in which nothing is finished."""
    attempts: list[int] = []

    async def handle(events):
        attempts.append(len(events))
        if len(events) > 1:
            raise Unavailable("it took too long")
        return await echo(events)

    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in range(1, size + 1)]
    await process(stage(handle), batch, log, QUICK, make.done)
    assert attempts.index(1) <= 3
    assert seqs(log) == list(range(1, size + 1))


async def test_a_part_of_the_completions_that_is_durable_counts_as_progress(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stages, "_APPEND_MAX", 4)
    progress: list[int] = []
    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in range(1, 11)]
    await process(
        stage(echo), batch, log, replace(QUICK, progressed=lambda: progress.append(len(log.records))), make.done
    )
    assert progress == [4, 8, 10]


async def test_what_is_more_work_than_one_call_goes_on_once_the_completions_so_far_are_durable():
    calls: list[tuple[list[int], list[int]]] = []
    done: list[int] = []

    async def handle(events):
        calls.append(([event.message.seq for event in events], seqs(log)))
        large = [event for event in events if event.message.seq == 2]
        small = [event for event in events if event.message.seq != 2]
        return [*await echo([*small, *large]), *(Unfinished(event) for event in large if len(calls) < 3)]

    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in (1, 2, 3)]
    await process(stage(handle), batch, log, QUICK, lambda part, _: done.extend(record.offset for record in part))
    assert calls == [([1, 2, 3], []), ([2], [1, 3, 2]), ([2], [1, 3, 2, 2])]
    assert (seqs(log), done) == ([1, 3, 2, 2, 2], [1, 2, 3])


async def test_very_many_completions_are_appended_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stages, "_APPEND_MAX", 4)
    log, batch = make.Noted(), [taken(make.created(seq=seq), seq) for seq in range(1, 11)]
    await process(stage(echo), batch, log, QUICK, make.done)
    assert (log.appended, seqs(log)) == ([4, 4, 2], list(range(1, 11)))


async def test_long_trouble_gives_up_and_makes_no_dead_letter():
    async def handle(_):
        raise Unavailable("gone")

    log = MemoryLog()
    with pytest.raises(RetriesExhausted):
        await process(stage(handle), [taken(make.created())], log, QUICK, make.done)
    assert log.records == []


async def test_a_handler_that_hangs_gives_up():
    async def handle(_):
        await asyncio.Event().wait()

    with pytest.raises(RetriesExhausted):
        await process(stage(handle), [taken(make.created())], MemoryLog(), QUICK, make.done)


async def test_a_broker_that_takes_nothing_gives_up():
    with pytest.raises(RetriesExhausted):
        await process(stage(echo), [taken(make.created())], MemoryLog(down=True), QUICK, make.done)


async def test_records_that_went_elsewhere_are_abandoned():
    retry = RetryPolicy(still_assigned=lambda: False)
    with pytest.raises(PartitionRevoked):
        await process(stage(echo), [taken(make.created())], MemoryLog(), retry, make.done)


class Tries:
    """A rule that fails for a batch with poison in it, and counts the transactions that each conversation is in."""

    def __init__(self, poison: set[str]) -> None:
        self.poison = poison
        self.count: Counter[str] = Counter()

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        self.count.update({event.conversation_id for event in events})
        if any(event.message.content in self.poison for event in events):
            raise KeyError
        return [make.sent(conversation_id=e.conversation_id, seq=e.message.seq) for e in events]


@given(
    contents=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["fine", "fine", "bad"])), min_size=1, max_size=60)
)
@settings(max_examples=60, deadline=None)
def test_records_that_fail_cost_other_conversations_one_transaction_more(contents):
    rooms = [make.ROOM[:-1] + str(n) for n in range(10)]
    seqs_of: Counter[int] = Counter()
    batch, events = [], []
    for offset, (room, content) in enumerate(contents):
        seqs_of[room] += 1
        events.append(make.created(conversation_id=rooms[room], seq=seqs_of[room], content=content))
        batch.append(taken(events[-1], offset))
    log, rule = MemoryLog(), Tries({"bad"})
    asyncio.run(process(stage(rule), batch, log, QUICK, make.done))
    failing = {event.conversation_id for event in events if event.message.content == "bad"}
    assert all(rule.count[room] <= 2 for room in rooms if room not in failing)
    for room in rooms:
        fine = [e.message.seq for e in events if e.conversation_id == room and e.message.content == "fine"]
        assert [e.message.seq for e in log.events("message.sent") if e.conversation_id == room] == fine
    letters = sorted(int(dict(r.headers)["dlq-origin"].split(b"/")[2]) for r in log.records if r.topic == "status.dlq")
    assert letters == [offset for offset, (_, content) in enumerate(contents) if content == "bad"]


async def test_what_the_store_contradicts_is_set_aside_once_and_told_with_its_place():
    async def handle(events):
        keep = [Refused(e, "no such message", keep=e.message.seq == 2) for e in events if e.message.seq > 1]
        return [*await echo([e for e in events if e.message.seq == 1]), *keep]

    log, batch = MemoryLog(), [taken(make.created(seq=seq), seq) for seq in (1, 2, 3)]
    dropped: list[int] = []
    with structlog.testing.capture_logs() as lines:
        await process(stage(handle), batch, log, QUICK, lambda _, result: dropped.append(result.dropped))
    assert (seqs(log), dropped) == ([1], [1])
    [letter] = [dict(r.headers) for r in log.records if r.topic == "status.dlq"]
    assert (letter["dlq-cause"], letter["dlq-origin"]) == (b"no such message", b"message.created/3/2")
    [line] = [line for line in lines if line["event"] == "record_set_aside"]
    place = {"topic": "message.created", "partition": 3, "offset": 2, "reason": "no such message", "stage": "status"}
    assert line == {**place, "event": "record_set_aside", "log_level": "warning"}
