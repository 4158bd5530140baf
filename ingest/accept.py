"""Accepting messages: concurrent requests are committed together, on the leading edge.

A request that finds nothing in flight is stored at once; those that come meanwhile gather and make up the next
batch. So there is no timer to wait for, and batches grow with the load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from runtime.errors import OutcomeUnknown, Rejected, Unavailable
from runtime.intake import Accepted, Draft, Intake, Outcome

Waiting: TypeAlias = tuple[Draft, "asyncio.Future[Outcome]"]

MAX_BATCH = 256
MAX_WAITING = 5000
MAX_IN_FLIGHT = 2
DEADLINE_S = 3.0


@dataclass(slots=True)
class Accept:
    """Stores drafts. ``stored`` is called after each commit that added something: it wakes the relay."""

    intake: Intake
    stored: Callable[[Sequence[Draft]], None]
    counted: Callable[[int], None] = lambda _: None
    deadline_s: float = DEADLINE_S
    _waiting: deque[Waiting] = field(default_factory=deque)
    _in_flight: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, draft: Draft) -> Accepted:
        """Return once the message is committed.

        Raises what the rules say of this draft (a Rejected), Unavailable when it is surely not stored, and
        OutcomeUnknown when it may be: after ``deadline_s`` without an answer of the store.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable("too many messages are waiting to be stored; try again")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        entry = (draft, answer)
        self._waiting.append(entry)
        self._start()
        # Not wait_for: it would wait for a statement that a frozen server never ends.
        await asyncio.wait({answer}, timeout=self.deadline_s)
        if not answer.done():
            answer.cancel()
            if entry in self._waiting:
                self._waiting.remove(entry)
                raise Unavailable("the store is too slow; try again")
            raise OutcomeUnknown("the store did not answer in time; repeat with the same key")
        outcome = answer.result()
        if isinstance(outcome, Rejected):
            raise outcome
        return outcome

    async def drain(self) -> None:
        """Return when nothing is in flight any more."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _start(self) -> None:
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            task = asyncio.create_task(self._store(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._start()

    async def _store(self, batch: Sequence[Waiting]) -> None:
        drafts = [draft for draft, _ in batch]
        try:
            outcomes = await self.intake.accept(drafts)
        except OutcomeUnknown as exc:
            _fail(batch, exc)
        except Unavailable as exc:
            await self._store_alone(batch, exc)
        except Exception as exc:  # an edge: whatever it is, each request is answered
            _fail(batch, exc)
        else:
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)
            new = [d for d, o in zip(drafts, outcomes, strict=True) if isinstance(o, Accepted) and not o.replayed]
            if new:
                self.counted(len(new))
                self.stored(new)

    async def _store_alone(self, batch: Sequence[Waiting], cause: Unavailable) -> None:
        """One bad neighbour (a locked conversation, a lost race) must not fail the others."""
        if len(batch) == 1:
            _fail(batch, cause)
            return
        await asyncio.gather(*(self._store([entry]) for entry in batch if not entry[1].done()))


def _fail(batch: Sequence[Waiting], exc: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(exc)
