"""Completion topics to Redis channels. One consumer group for all gateways: each event is published once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from domain.errors import Unavailable
from domain.history import History
from domain.pubsub import Fanout
from domain.skips import SkipList
from gateway import channels
from gateway.hint_budget import HintBudget
from gateway.publications import READS, Publication, publications_of
from runtime.metrics import HINTS_LOST
from schemas.codec import REPLAY, Headers, Malformed, decode
from schemas.events import ConversationChange, ConversationChanged

__all__ = ["BATCH", "COMMIT_S", "GROUP", "READS", "Consumer", "ConsumerRecord", "Dispatcher"]

_log = structlog.get_logger()

GROUP = "gateway"
BATCH = 500
COMMIT_S = 1.0
MEMBERS_FOR_S = 5.0
_MOST_KNOWN = 10_000
"""Conversations whose members are remembered; then all are forgotten."""
_RELEASE_S = 0.05


class ConsumerRecord(Protocol):
    """A record of Kafka, as far as it matters here."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Consumer(Protocol):
    """A member of the group."""

    async def batch(self, limit: int) -> Sequence[ConsumerRecord]:
        """Return at least one record. Raises Unavailable."""

    async def commit(self) -> None:
        """Commit the place behind everything that was handed out. Raises Unavailable."""


@dataclass(slots=True)
class Dispatcher:
    """Publishes what the pipeline has completed. Redis carries hints: what it does not take is found by seq later."""

    consumer: Consumer
    fanout: Fanout
    history: History
    skips: SkipList | None = None
    _budget: HintBudget = field(default_factory=HintBudget)
    _members: dict[str, tuple[float, Sequence[str]]] = field(default_factory=dict)
    _publishing: bool = False
    _uncommitted: bool = False
    _commit_at: float = 0.0

    async def run(self) -> None:
        """Run for ever. Raises Unavailable when Kafka is gone: the process starts again then."""
        async with asyncio.TaskGroup() as group:
            if self.skips is not None:
                await self.skips.read()
                group.create_task(self.skips.keep())
            group.create_task(self._consume())
            group.create_task(self._commit_when_idle())
            group.create_task(self._release())

    async def _consume(self) -> None:
        while True:
            records = await self.consumer.batch(BATCH)
            self._publishing = self._uncommitted = True
            await self._publish([p async for p in self._messages(records)])
            self._publishing = False
            await self._commit_if_due()

    async def _commit_when_idle(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            if not self._publishing:
                await self._commit_if_due()

    async def _commit_if_due(self) -> None:
        """Commit at most once in COMMIT_S: a commit costs more than the few records it covers, a repeat is harmless."""
        now = asyncio.get_running_loop().time()
        if self._uncommitted and now >= self._commit_at:
            self._uncommitted, self._commit_at = False, now + COMMIT_S
            await self.consumer.commit()

    async def _messages(self, records: Sequence[ConsumerRecord]) -> AsyncIterator[Publication]:
        for record in records:
            if self.skips is not None and self.skips.covers(record):
                _log.warning(
                    "record_skipped",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    reason="an operator lets the gateways step over it",
                )
                continue
            try:
                event = decode(record.topic, record.key, record.value)
            except Malformed as exc:
                _log.warning("record_skipped", topic=record.topic, reason=str(exc))
                continue
            if isinstance(event, ConversationChanged):
                self._note_membership(event)
            publications = publications_of(event, is_replay=REPLAY in record.headers)
            for publication in publications.certain:
                yield publication
            if (hint := publications.hint) is not None:
                hints = [(channel, hint.envelope) for channel in await self._channels_of(hint.conversation_id)]
                now = asyncio.get_running_loop().time()
                for publication in self._budget.spend(hint.conversation_id, hints, now):
                    yield publication

    def _note_membership(self, event: ConversationChanged) -> None:
        self._members.pop(event.conversation_id, None)
        if event.change == ConversationChange.MEMBER_REMOVED:
            self._budget.without(event.conversation_id, channels.user_messages(event.user_id))

    async def _channels_of(self, conversation_id: str) -> Sequence[str]:
        """Return the channels of the conversation's members, as known for at most MEMBERS_FOR_S."""
        now = asyncio.get_running_loop().time()
        until, found = self._members.get(conversation_id, (0.0, ()))
        if now < until:
            return found
        try:
            found = [channels.user_messages(user) for user in await self.history.members(conversation_id)]
        except Unavailable:
            return found  # a hint less; the rooms do not depend on it
        if len(self._members) > _MOST_KNOWN:
            self._members.clear()
        self._members[conversation_id] = (now + MEMBERS_FOR_S, found)
        return found

    async def _release(self) -> None:
        while True:
            await asyncio.sleep(_RELEASE_S)
            if self._budget.holds:
                await self._publish(self._budget.due(asyncio.get_running_loop().time()))

    async def _publish(self, messages: Sequence[Publication]) -> None:
        try:
            await self.fanout.publish(messages)
        except Unavailable:
            HINTS_LOST.inc(len(messages))
