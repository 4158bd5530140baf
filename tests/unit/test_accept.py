"""Batches on the leading edge: answers are right, neighbours are safe, outcomes are honest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from domain.drafts import Accepted, Draft, Outcome
from domain.errors import IdempotencyMismatch, NotFound, OutcomeUnknown, Unavailable
from ingest import accept as module
from ingest.accept import Accept
from schemas.events import MessageCreated
from schemas.ids import new_id
from tests import make


@pytest.fixture
async def tables() -> Tables:
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    return tables


class Undecided:
    """An intake that stores nothing without a further look."""

    async def accept_plain(self, drafts: Sequence[Draft]) -> Sequence[None]:
        return [None for _ in drafts]


class Gate(Undecided):
    """An intake that waits until it is opened, and can refuse one sender's batches."""

    def __init__(self, tables: Tables) -> None:
        self.inner, self.open, self.sizes, self.poison = MemoryIntake(tables), asyncio.Event(), [], ""

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        self.sizes.append(len(drafts))
        await self.open.wait()
        if any(d.content == self.poison for d in drafts):
            raise Unavailable("locked")
        return await self.inner.accept(drafts)


async def test_what_comes_while_a_commit_is_in_flight_makes_the_next_batch(tables):
    gate = Gate(tables)
    accept = Accept(gate, lambda _: None)
    posts = [asyncio.create_task(accept(make.draft(str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(*posts)
    assert [a.message.seq for a in answers] == list(range(1, 21))
    assert len(gate.sizes) < 5


async def test_a_neighbour_that_cannot_be_stored_fails_alone(tables):
    gate = Gate(tables)
    gate.poison = "bad"
    accept = Accept(gate, lambda _: None)
    posts = [asyncio.create_task(accept(make.draft(text))) for text in ("a", "b", "bad", "c")]
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.gather(*posts, return_exceptions=True)
    assert [type(r).__name__ for r in results] == ["Accepted", "Accepted", "Unavailable", "Accepted"]


async def test_a_store_that_does_not_answer_leaves_the_outcome_unknown(tables):
    gate = Gate(tables)
    accept = Accept(gate, lambda _: None, deadline_s=0.05)
    first, second = (asyncio.create_task(accept(make.draft(t))) for t in "ab")
    for _ in range(2):
        await asyncio.sleep(0)
    third = asyncio.create_task(accept(make.draft("c")))
    results = await asyncio.gather(first, second, third, return_exceptions=True)
    assert [type(r) for r in results] == [OutcomeUnknown, OutcomeUnknown, Unavailable]
    gate.open.set()
    await accept.drain()
    assert {m.content for m in tables.messages.values()} == {"a", "b"}  # c was surely not stored


async def test_a_frozen_store_answers_each_request_at_its_own_deadline_and_leaves_no_timer(tables):
    gate, deadline_s = Gate(tables), 0.2
    accept = Accept(gate, lambda _: None, deadline_s=deadline_s)
    clock = asyncio.get_running_loop().time

    async def waited(text: str) -> float:
        began = clock()
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await accept(make.draft(text))
        return clock() - began

    posts = []
    for turn in range(5):
        posts += [asyncio.create_task(waited(f"{turn}-{n}")) for n in range(20)]
        await asyncio.sleep(deadline_s / 10)
    times = await asyncio.gather(*posts)
    assert min(times) > deadline_s - 0.05
    assert max(times) < deadline_s + 0.5, "far below the sum of two deadlines and the time that the last began"
    assert not accept._deadlines
    assert accept._deadlines._timer is None
    gate.open.set()
    await accept.drain()


async def test_a_request_that_is_cancelled_leaves_its_draft_to_be_stored(tables):
    gate = Gate(tables)
    accept = Accept(gate, lambda _: None)
    in_flight = asyncio.create_task(accept(make.draft("a")))
    for _ in range(2):
        await asyncio.sleep(0)
    queued = asyncio.create_task(accept(make.draft("b")))
    await asyncio.sleep(0)
    for task in (in_flight, queued):
        task.cancel()
    await asyncio.wait({in_flight, queued})
    assert in_flight.cancelled() and queued.cancelled()
    assert not accept._deadlines
    assert accept._deadlines._timer is None
    gate.open.set()
    await accept.drain()
    assert {m.content for m in tables.messages.values()} == {"a", "b"}


async def test_no_more_than_so_many_requests_wait(tables, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    gate = Gate(tables)
    accept = Accept(gate, lambda _: None)
    posts = [asyncio.create_task(accept(make.draft(str(n)))) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many"):
        await accept(make.draft("one too many"))
    gate.open.set()
    await asyncio.gather(*posts)
    assert (await accept(make.draft("again"))).message.seq == 4


async def test_the_relay_is_woken_for_new_messages_only(tables):
    woken: list[MessageCreated] = []
    accept = Accept(MemoryIntake(tables), woken.extend)
    first = await accept(make.draft(key="k"))
    again = await accept(make.draft(key="k"))
    assert again.replayed
    assert again.message == first.message
    assert [(event.event_id, event.client_message_id) for event in woken] == [(first.message.message_id, "k")]


class Noted:
    """An intake that notes which drafts it gets, and whether as plain ones."""

    def __init__(self, tables: Tables) -> None:
        self.inner, self.asked = MemoryIntake(tables), list[tuple[str, list[str]]]()

    async def accept_plain(self, drafts: Sequence[Draft]) -> Sequence[Accepted | None]:
        self.asked.append(("plain", [draft.content for draft in drafts]))
        return await self.inner.accept_plain(drafts)

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        self.asked.append(("all", [draft.content for draft in drafts]))
        return await self.inner.accept(drafts, wait=wait)


async def test_plain_drafts_are_stored_at_once_and_what_must_be_decided_after_them(tables):
    noted = Noted(tables)
    accept = Accept(noted, lambda _: None)
    first = await accept(make.draft("first"))
    reply = make.draft("reply", replyTo=first.message.message_id)
    posts = [make.draft("a", key="k"), make.draft("b", key="k"), reply, make.draft("d", sender="eve")]
    results = await asyncio.gather(*map(accept, posts), return_exceptions=True)
    assert [type(result) for result in results] == [Accepted, IdempotencyMismatch, Accepted, NotFound]
    assert noted.asked == [("plain", ["first"]), ("plain", ["a", "d"]), ("all", ["b", "reply", "d"])]


async def test_rejections_reach_their_own_request(tables):
    accept = Accept(MemoryIntake(tables), lambda _: None)
    await accept(make.draft(key="k"))
    with pytest.raises(IdempotencyMismatch):
        await accept(make.draft("other", key="k"))
    with pytest.raises(NotFound):
        await accept(make.draft(sender="eve"))


async def test_a_held_conversation_waits_apart_and_stops_no_other(tables):
    other = new_id()
    await MemoryConversations(tables).create(other, None, "alice", [])
    intake = MemoryIntake(tables, locked={make.ROOM})
    waiting = asyncio.Event()

    class Patient(Undecided):
        async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
            if wait:
                waiting.set()
                while intake.locked:  # noqa: ASYNC110 - a lock that is waited for
                    await asyncio.sleep(0)
            return await intake.accept(drafts, wait=wait)

    accept = Accept(Patient(), lambda _: None)
    held = [asyncio.create_task(accept(make.draft(text))) for text in "ab"]
    await waiting.wait()
    held += [asyncio.create_task(accept(make.draft(text))) for text in "cd"]
    flowing = [await accept(make.draft(str(n), conversationId=other)) for n in range(5)]
    assert [a.message.seq for a in flowing] == [1, 2, 3, 4, 5]
    assert not any(task.done() for task in held)
    intake.locked.clear()
    answers = await asyncio.gather(*held)
    assert [(a.message.seq, a.message.content) for a in answers] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    await accept.drain()


async def test_a_conversation_that_stays_held_is_unavailable_and_a_known_key_is_answered(tables):
    intake = MemoryIntake(tables)
    accept = Accept(intake, lambda _: None)
    first = await accept(make.draft(key="k"))
    intake.locked.add(make.ROOM)
    again = await accept(make.draft(key="k"))
    assert (again.replayed, again.message) == (True, first.message)
    with pytest.raises(Unavailable):
        await accept(make.draft("new"))
    intake.locked.clear()
    assert (await accept(make.draft("new"))).message.seq == 2


class Faulty(Undecided, MemoryIntake):
    """An intake that answers with too few outcomes, as a wrong adapter would."""

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        outcomes = await super().accept(drafts, wait=wait)
        return outcomes[:-1] if drafts[0].content == "bad" else outcomes


async def test_a_queue_survives_whatever_fails_in_it(tables):
    def fail(_: Sequence[Draft]) -> None:
        raise RuntimeError("the relay is broken")

    accept = Accept(Faulty(tables), fail, deadline_s=20)
    with capture_logs() as logs:
        assert (await accept(make.draft("a"))).message.seq == 1
        with pytest.raises(ValueError, match="shorter"):
            await accept(make.draft("bad"))
        assert (await accept(make.draft("b"))).message.seq == 3
        await accept.drain()
    assert [line["reason"] for line in logs if line["event"] == "relay_not_told"] == ["RuntimeError"] * 2
