"""Completion topics to Redis channels. One consumer group for all gateways: each event is published once.

The store is believed, not the record: a record names a fact, and the fact is published as the store has it. A record
that cannot be read, or whose fact the store does not have, is counted, logged with its place, and passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import structlog

from domain.errors import Unavailable
from domain.event_log import ConsumedRecord
from domain.facts import Facts, Found
from domain.history import History
from domain.pubsub import Fanout
from domain.skips import SkipList
from gateway import channels
from gateway.confirmation import Fact, fact_of, wanted_by
from gateway.hint_budget import HintBudget, ListBudget
from gateway.publications import READS, Publication, publications_of
from runtime.metrics import HINTS_LOST, RECORDS_PASSED_OVER
from schemas.codec import REPLAY, Malformed, decode
from schemas.events import AnyEvent
from schemas.messages import Change, ChangeKind

__all__ = ["BATCH", "COMMIT_S", "GROUP", "READS", "Consumer", "Dispatcher"]

_log = structlog.get_logger()

GROUP = "gateway"
BATCH = 500
COMMIT_S = 1.0
MEMBERS_FOR_S = 2.0
RETRY_S, RETRY_MAX_S = 0.1, 2.0
"""First and longest pause before the store is asked again."""
_MOST_KNOWN = 10_000
"""Conversations whose members are remembered; then all are forgotten."""
_RELEASE_S = 0.05

Named: TypeAlias = tuple[Fact, bool]
"""A fact that a record names, and whether it was told before."""


class Consumer(Protocol):
    """A member of the group."""

    async def batch(self, limit: int) -> Sequence[ConsumedRecord]:
        """Return at least one record. Raises Unavailable."""

    async def commit(self) -> None:
        """Commit the place behind everything that was handed out. Raises Unavailable."""


@dataclass(slots=True)
class Dispatcher:
    """Publishes what the pipeline has completed. Redis carries hints: what it does not take is found by seq later."""

    consumer: Consumer
    fanout: Fanout
    facts: Facts
    history: History
    skips: SkipList | None = None
    _budget: HintBudget = field(default_factory=HintBudget)
    _lists: ListBudget = field(default_factory=ListBudget)
    _members: dict[str, tuple[float, Sequence[str]]] = field(default_factory=dict)
    _publishing: bool = False
    _uncommitted: asyncio.Event = field(default_factory=asyncio.Event)
    _held: asyncio.Event = field(default_factory=asyncio.Event)
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
            self._publishing = True
            self._uncommitted.set()
            await self._publish(await self._publications(await self._confirmed(records)))
            self._publishing = False
            await self._commit_if_due()

    async def _commit_when_idle(self) -> None:
        while True:
            await self._uncommitted.wait()
            await asyncio.sleep(COMMIT_S)
            if not self._publishing:
                await self._commit_if_due()

    async def _commit_if_due(self) -> None:
        """Commit at most once in COMMIT_S: a commit costs more than the few records it covers, a repeat is harmless."""
        now = asyncio.get_running_loop().time()
        if self._uncommitted.is_set() and now >= self._commit_at:
            self._uncommitted.clear()
            self._commit_at = now + COMMIT_S
            await self.consumer.commit()

    # from records to facts

    async def _confirmed(self, records: Sequence[ConsumedRecord]) -> list[Named]:
        """Return the facts that the records name, in their order."""
        read = [(record, event) for record in records if (event := self._read(record)) is not None]
        try:
            found = [await self._find([event for _, event in read])] * len(read)
        except Exception:  # a value that no rule has foreseen: it must not take its neighbours with it
            found = [await self._find_alone(record, event) for record, event in read]
        facts = list[Named]()
        for (record, event), known in zip(read, found, strict=True):
            fact = fact_of(event, known)
            if fact is not None:
                facts.append((fact, REPLAY in record.headers))
            elif known is not _UNREADABLE:
                _pass_over(record, "unknown", "the store has no such fact")
        return facts

    def _read(self, record: ConsumedRecord) -> AnyEvent | None:
        if self.skips is not None and self.skips.covers(record):
            _pass_over(record, "skipped", "an operator lets the gateways step over it")
            return None
        try:
            return decode(record.topic, record.key, record.value)
        except Malformed as exc:
            _pass_over(record, "malformed", str(exc))
            return None

    async def _find(self, events: Sequence[AnyEvent]) -> Found:
        """Return the facts that the events name. Waits while the store does not answer; nothing is committed then."""
        wanted, pause = wanted_by(events), RETRY_S
        while True:
            try:
                found = await self.facts.find(wanted)
            except Unavailable as exc:
                if pause == RETRY_S:
                    _log.warning("dispatcher_waits", group=GROUP, reason=str(exc))
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX_S)
            else:
                if pause > RETRY_S:
                    _log.info("dispatcher_continues", group=GROUP)
                return found

    async def _find_alone(self, record: ConsumedRecord, event: AnyEvent) -> Found:
        try:
            return await self._find([event])
        except Exception as exc:
            _pass_over(record, "refused", f"the store refuses its values: {type(exc).__name__}")
            return _UNREADABLE

    # from facts to publications

    async def _publications(self, facts: Sequence[Named]) -> list[Publication]:
        self._note_memberships([fact for fact, _ in facts])
        batch = [publications_of(fact, is_replay=is_replay) for fact, is_replay in facts]
        await self._learn_members({made.hint.conversation_id for made in batch if made.hint is not None})
        publications: list[Publication] = []
        for made in batch:
            publications += made.certain
            for list_hint in made.lists:
                publications += self._lists.spend(list_hint, asyncio.get_running_loop().time())
            if (hint := made.hint) is not None:
                _, members = self._members.get(hint.conversation_id, (0.0, ()))
                hints = [(channel, hint.envelope) for channel in members]
                now = asyncio.get_running_loop().time()
                publications += self._budget.spend(hint.conversation_id, hints, now)
        if self._holding:
            self._held.set()
        return publications

    def _note_memberships(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if not isinstance(fact, Change) or fact.kind not in (ChangeKind.MEMBER_ADDED, ChangeKind.MEMBER_REMOVED):
                continue
            self._members.pop(fact.conversation_id, None)
            if fact.kind == ChangeKind.MEMBER_REMOVED:
                self._budget.without(fact.conversation_id, channels.user_messages(fact.data["userId"]))

    async def _learn_members(self, conversation_ids: set[str]) -> None:
        """Read the channels of these conversations' members, unless they are known for less than MEMBERS_FOR_S."""
        now = asyncio.get_running_loop().time()
        if len(self._members) > _MOST_KNOWN:
            self._members.clear()
        stale = [id_ for id_ in conversation_ids if now >= self._members.get(id_, (0.0, ()))[0]]
        try:
            found = await asyncio.gather(*map(self.history.members, stale))
        except Unavailable:
            return  # a hint less; the rooms do not depend on it
        for id_, members in zip(stale, found, strict=True):
            self._members[id_] = (now + MEMBERS_FOR_S, [channels.user_messages(user) for user in members])

    @property
    def _holding(self) -> bool:
        return self._budget.holds or self._lists.holds

    async def _release(self) -> None:
        """Publish what was held back, once it may go; rest while nothing is."""
        while True:
            await self._held.wait()
            await asyncio.sleep(_RELEASE_S)
            now = asyncio.get_running_loop().time()
            for budget in (self._budget, self._lists):
                if budget.holds:
                    await self._publish(budget.due(now))
            if not self._holding:
                self._held.clear()

    async def _publish(self, messages: Sequence[Publication]) -> None:
        try:
            await self.fanout.publish(messages)
        except Unavailable:
            HINTS_LOST.inc(len(messages))


_UNREADABLE = Found()
"""Stands for the facts of a record that was passed over already."""


def _pass_over(record: ConsumedRecord, cause: str, reason: str) -> None:
    RECORDS_PASSED_OVER.labels(record.topic, cause).inc()
    _log.warning(
        "record_passed_over",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        cause=cause,
        reason=reason,
    )
