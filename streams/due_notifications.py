"""Decisions about messages that may not have reached somebody who looked connected.

Presence says that somebody has a socket, not that a device hears anything. So the stage defers such a message, and when
it is due, who has no watermark over it is notified, whatever presence says. What is due lies in the store: each step is
repeated after a crash, and none has an effect twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from domain.errors import Unavailable
from domain.event_log import EventLog
from domain.messages import Messages
from domain.notifications import Claim, Undecided
from domain.receipts import ReceiptBarrier
from schemas.codec import record
from schemas.events import AnyEvent
from schemas.messages import Message
from streams.stage import Missing
from streams.turns import turn

_log = structlog.get_logger()

LIMIT = 200
"""Messages of one claim."""
POLL_S, CHECK_S = 1.0, 0.25
"""Pauses while nothing is due, and while something is that must wait for receipts."""
PART_S = 12.0
"""Bound of the work on one part; the server ends the session of a claim that is idle for 15 s."""
POSTPONED_S = 60.0
BEHIND_S, WHOLE_EVERY_S = 20.0, 60.0
"""A claim begins so far before the first row that was left, and so often with the oldest row. While a session keeps an
old snapshot, as a dump does, the index has all rows that were deleted since: not every claim may step over them."""
_APPEND_MAX = 1_000


class Decide(Protocol):
    """Rule of the stage, as the worker needs it."""

    async def decide(self, messages: Sequence[Message]) -> Sequence[AnyEvent]:
        """Notify whom these messages have not reached; return the completions of all their notifications."""

    async def weigh(self, conversation_ids: Sequence[str]) -> Sequence[int]:
        """Return how many notifications each message may make, by its conversation."""

    async def told_of(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return the ids of those completions of these messages that were published before."""

    async def missing(self, completions: Sequence[AnyEvent]) -> Missing:
        """Return the completions that the log may not have."""

    async def done(self, written: Missing) -> None:
        """Note that the log has these completions."""


@dataclass(slots=True)
class DueNotifications:
    """Worker beside the lanes of the stage. Any number of them share the work."""

    undecided: Undecided
    messages: Messages
    rule: Decide
    barrier: ReceiptBarrier
    _failing: set[str] = field(default_factory=set)
    _floor: datetime | None = None
    """Time up to which all that was due is decided."""
    _whole_at: datetime | None = None

    async def run(self, log: EventLog, stopping: asyncio.Event) -> None:
        """Decide what is due until ``stopping`` is set; finish first what is under way."""
        while not stopping.is_set():
            try:
                pause = await self.turn(log)
                self._note(None)
            except Unavailable as exc:
                self._note(exc)
                pause = POLL_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()

    def _note(self, exc: Unavailable | None) -> None:
        """Log the first of each trouble, and its end."""
        if exc is None:
            if self._failing:
                _log.info("due_notifications_continue")
            self._failing.clear()
        elif str(exc) not in self._failing:
            self._failing.add(str(exc))
            _log.warning("due_notifications_wait", reason=str(exc), driver=exc.driver)

    async def turn(self, log: EventLog) -> float:
        """Decide what may be decided now; return the seconds until the next turn. Raises Unavailable."""
        due = await self.undecided.due(self._floor)
        if self._whole_at is None or due.at - self._whole_at > timedelta(seconds=WHOLE_EVERY_S):
            self._floor, self._whole_at = None, due.at
            due = await self.undecided.due()
        # Rows that another worker holds are among them: it may let go of them undecided.
        self._floor = min(due.first or due.at, due.at) - timedelta(seconds=BEHIND_S)
        if due.first is None:
            self.barrier.rest()
            return POLL_S
        passed = await self.barrier.passed(due.at)
        if due.first > due.at:
            return min(max((due.first - due.at) / timedelta(seconds=1), CHECK_S), POLL_S)
        if passed is None or due.first > passed:
            return CHECK_S
        async with self.undecided.claim(passed, LIMIT, self._floor) as claim:
            is_full = len(claim.message_ids) == LIMIT
            left = await self._work(claim, log)
        return 0.0 if is_full or left else CHECK_S

    async def _work(self, claim: Claim, log: EventLog) -> bool:
        """Work on the parts of one turn of what is claimed; return whether some of it is left for the next claim."""
        found = await self.messages.find(claim.message_ids)
        messages = [found[id_] for id_ in claim.message_ids if id_ in found]
        await claim.settle([id_ for id_ in claim.message_ids if id_ not in found])
        if not messages:
            return False
        conversations = [message.conversation_id for message in messages]
        planned = turn([id_.encode() for id_ in conversations], await self.rule.weigh(conversations))
        for positions in planned.parts:
            part = [messages[position] for position in positions]
            try:
                await self._decide(part, log)
            except Unavailable:
                raise
            except Exception as exc:
                if len(part) > 1:
                    part = await self._apart(part, claim, log)
                else:
                    await self._put_off(part[0], claim, exc)
                    part = []
            await claim.settle([message.message_id for message in part])
        return bool(planned.left)

    async def _apart(self, part: Sequence[Message], claim: Claim, log: EventLog) -> list[Message]:
        """Decide each message alone, so that one that can never work holds up no other; return those that are done."""
        done = list[Message]()
        for message in part:
            try:
                await self._decide([message], log)
                done.append(message)
            except Unavailable:
                raise
            except Exception as exc:
                await self._put_off(message, claim, exc)
        return done

    async def _put_off(self, message: Message, claim: Claim, exc: Exception) -> None:
        _log.error("notification_undecided", message_id=message.message_id, reason=type(exc).__name__, exc_info=exc)
        await claim.postpone([message.message_id], POSTPONED_S)

    async def _decide(self, messages: Sequence[Message], log: EventLog) -> None:
        """Notify, and publish. A crash between any two steps repeats them: the store knows what it has, and has told.

        Raises Unavailable.
        """
        try:
            async with asyncio.timeout(PART_S):
                told = await self.rule.told_of([message.message_id for message in messages])
                missing = await self.rule.missing(await self.rule.decide(messages))
                made = [
                    record(event, producer="millrace/notification", is_replay=event.event_id in told)
                    for event in missing.completions
                ]
                for begin in range(0, len(made), _APPEND_MAX):
                    await log.append(made[begin : begin + _APPEND_MAX])
                if made:
                    await self.rule.done(missing)
        except TimeoutError as exc:
            raise Unavailable("notifications of due messages take too long") from exc
        _log.debug("messages_decided", messages=len(messages), notifications=len(made))
