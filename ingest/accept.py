"""Group commit of messages: concurrent requests are committed together, on the leading edge.

A request that finds nothing in flight is stored at once; requests that come meanwhile gather and make up the next
batch. So there is no timer to wait for, and batches grow with the load. Conversations are spread over a few queues,
each with one batch in flight, so batches of one process never contend for a conversation. A conversation
that another process holds gets a queue of its own, which may wait for it while all others flow.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog

from domain.changes import created_message
from domain.drafts import Accepted, Contended, Draft, Intake, Outcome, plain
from domain.errors import OutcomeUnknown, Rejected, Unavailable
from ingest.deadlines import Deadlines
from schemas.events import MessageCreated

_log = structlog.get_logger()

MAX_BATCH = 256
MAX_WAITING = 5000
QUEUES = 2
MAX_PATIENT = 3
"""Queues that wait for a held conversation at the same time; each takes a connection."""
DEADLINE_S = 2.2
_Store: TypeAlias = Callable[[Sequence[Draft]], Awaitable[Sequence[Outcome | None]]]


@dataclass(slots=True, eq=False)
class _Entry:
    """Draft, and the request that waits for its outcome."""

    draft: Draft
    answer: asyncio.Future[Outcome]
    in_flight: bool = False

    @property
    def is_answered(self) -> bool:
        """Return whether the request was answered. A cancelled one was not, and its draft is stored all the same."""
        return self.answer.done() and not self.answer.cancelled()

    def give_up(self) -> None:
        """Answer that the time is up."""
        if self.answer.done():
            return
        if self.in_flight:
            self.answer.set_exception(OutcomeUnknown("PostgreSQL does not answer in time; repeat with the same key"))
        else:
            self.answer.set_exception(Unavailable("PostgreSQL does not answer in time; try again"))


@dataclass(slots=True)
class _Queue:
    """Queue of drafts that are stored one batch after the other. A ``patient`` queue waits for its conversation."""

    patient: bool = False
    entries: deque[_Entry] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None

    def take(self) -> list[_Entry]:
        """Take the next batch, without drafts whose requests wait no more."""
        batch: list[_Entry] = []
        while self.entries and len(batch) < MAX_BATCH:
            entry = self.entries.popleft()
            if not entry.is_answered:
                entry.in_flight = True
                batch.append(entry)
        return batch


@dataclass(slots=True)
class Accept:
    """Stores drafts. After a commit that added messages ``on_committed`` gets their events, ``count`` their number."""

    intake: Intake
    on_committed: Callable[[Sequence[MessageCreated]], None]
    count: Callable[[int], None] = lambda _: None
    deadline_s: float = DEADLINE_S
    _queues: list[_Queue] = field(default_factory=lambda: [_Queue() for _ in range(QUEUES)])
    _patient: dict[str, _Queue] = field(default_factory=dict)
    _may_wait: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_PATIENT))
    _deadlines: Deadlines[_Entry] = field(init=False)

    def __post_init__(self) -> None:
        self._deadlines = Deadlines(self.deadline_s, _Entry.give_up)

    async def __call__(self, draft: Draft) -> Accepted:
        """Return once the message is committed.

        Raises a Rejected when the rules refuse the draft, Unavailable when it is surely not stored, and
        OutcomeUnknown when it may be: after ``deadline_s`` without an answer of the store.
        """
        if len(self._deadlines) >= MAX_WAITING:
            raise Unavailable("too many messages are waiting to be stored; try again")
        entry = _Entry(draft, asyncio.get_running_loop().create_future())
        self._deadlines.begin(entry)
        try:
            self._put(entry)
            # Not for the batch: a frozen server never ends its statement.
            outcome = await entry.answer
        finally:
            self._deadlines.end(entry)
        if isinstance(outcome, Rejected):
            raise outcome
        assert isinstance(outcome, Accepted)
        return outcome

    async def drain(self) -> None:
        """Return once nothing is in flight."""
        while tasks := [q.task for q in (*self._queues, *self._patient.values()) if q.task is not None]:
            await asyncio.wait(tasks)

    def _put(self, entry: _Entry) -> None:
        conversation_id = entry.draft.conversation_id
        queue = self._patient.get(conversation_id)
        if queue is None:
            queue = self._queues[zlib.crc32(conversation_id.encode()) % QUEUES]
        queue.entries.append(entry)
        if queue.task is None:
            queue.task = asyncio.create_task(self._serve(queue))

    def _put_aside(self, entry: _Entry) -> None:
        """Queue a draft apart from all others, since another transaction holds its conversation."""
        entry.in_flight = False
        conversation_id = entry.draft.conversation_id
        if conversation_id not in self._patient:
            _log.debug("conversation_contended", conversation_id=conversation_id, waiting=len(self._patient))
            queue = self._patient[conversation_id] = _Queue(patient=True)
            queue.task = asyncio.create_task(self._serve_apart(conversation_id, queue))
        self._patient[conversation_id].entries.append(entry)

    async def _serve(self, queue: _Queue) -> None:
        while batch := queue.take():
            await self._store(batch, wait=queue.patient)
        queue.task = None

    async def _serve_apart(self, conversation_id: str, queue: _Queue) -> None:
        try:
            async with self._may_wait:
                await self._serve(queue)
        finally:
            del self._patient[conversation_id]

    async def _store(self, batch: Sequence[_Entry], *, wait: bool) -> None:
        """Store what is plain in one round trip, and all else after it."""
        are_plain = plain([entry.draft for entry in batch])
        at_once = [] if wait else [entry for entry, is_plain in zip(batch, are_plain, strict=True) if is_plain]
        rest = [entry for entry, is_plain in zip(batch, are_plain, strict=True) if wait or not is_plain]
        if at_once:
            rest += await self._try(at_once, self.intake.accept_plain, wait=wait)
        if rest:
            await self._try(rest, partial(self.intake.accept, wait=wait), wait=wait)

    async def _try(self, batch: Sequence[_Entry], accept: _Store, *, wait: bool) -> Sequence[_Entry]:
        """Store drafts and answer their requests; return those without an outcome."""
        began = time.monotonic()
        try:
            outcomes = await accept([entry.draft for entry in batch])
            new = self._answer(batch, outcomes)
        except OutcomeUnknown as exc:
            _fail(batch, exc)
        except Unavailable as exc:
            await self._store_alone(batch, exc, wait=wait)
        except Exception as exc:  # whatever it is, each request is answered, and the queue goes on
            _fail(batch, exc)
        else:
            self._tell(new)
            conversations = len({entry.draft.conversation_id for entry in batch})
            ms = round((time.monotonic() - began) * 1000, 1)
            _log.debug("batch_committed", drafts=len(batch), new=len(new), conversations=conversations, ms=ms)
            return [entry for entry, outcome in zip(batch, outcomes, strict=True) if outcome is None]
        return ()

    def _answer(self, batch: Sequence[_Entry], outcomes: Sequence[Outcome | None]) -> list[MessageCreated]:
        """Answer the requests; return the events of the messages that were stored now."""
        new = []
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                continue
            if isinstance(outcome, Contended):
                self._put_aside(entry)
                continue
            if isinstance(outcome, Accepted) and not outcome.replayed:
                draft = entry.draft
                new.append(created_message(outcome.message, draft.client_message_id, draft.body_hash))
            if not entry.answer.done():
                entry.answer.set_result(outcome)
        return new

    def _tell(self, new: Sequence[MessageCreated]) -> None:
        """Tell the relay. It polls, too, so a failure delays these messages and nothing else."""
        if not new:
            return
        try:
            self.count(len(new))
            self.on_committed(new)
        except Exception as exc:
            _log.error("relay_not_told", messages=len(new), reason=type(exc).__name__, exc_info=exc)

    async def _store_alone(self, batch: Sequence[_Entry], cause: Unavailable, *, wait: bool) -> None:
        """Store each draft alone, so that one of them (a lost race) does not fail the others.

        A batch of a conversation that stays locked fails whole.
        """
        if len(batch) == 1 or wait:
            _fail(batch, cause)
            return
        await asyncio.gather(*(self._store([entry], wait=wait) for entry in batch if not entry.is_answered))


def _fail(batch: Sequence[_Entry], exc: Exception) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(exc)
