"""The relay under any interleaving: in each log first occurrences are in seq order, and in the end none is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.tables import Tables
from domain.drafts import Accepted
from domain.errors import Unavailable
from domain.outbox import Owed
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from schemas.codec import Record, decode, encode
from schemas.events import MessageCreated
from schemas.ids import new_id
from tests import make


@dataclass
class FlakyLog(MemoryLog):
    """Writes only some of what it is given, when told so."""

    takes: int | None = None
    crashes: bool = False
    """The writer dies after the broker's acknowledgement and before it marks."""

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        ends = await MemoryLog.append(self, records[: self.takes])
        if self.takes is not None or self.crashes:
            raise Unavailable("it is unknown what was written")
        return ends


@dataclass
class Owner:
    """A relay and its connection. Two that both believe to own a shard are what a stopped process may leave behind."""

    tables: Tables
    log: FlakyLog
    clock: list[float]
    outbox: MemoryOutbox = field(init=False)
    relay: Relay = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = MemoryOutbox(self.tables)
        self.relay = Relay(lambda: None, self.log, LossDetector(self.log, clock=lambda: self.clock[0], confirm_s=0))

    def publish(self) -> None:
        with suppress(Unavailable):
            asyncio.run(self._publish())

    async def _publish(self) -> None:
        await self.outbox.claim()
        await self.relay.publish(self.outbox)


class Relays(RuleBasedStateMachine):
    """Accepting, publishing, failing, crashing, losing, owing again, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.tables, self.log, self.clock = Tables(), FlakyLog(), [0.0]
        self.rooms = [new_id() for _ in range(2)]
        for room in self.rooms:
            asyncio.run(MemoryConversations(self.tables).create(room, None, "alice", []))
        self.owners = [Owner(self.tables, self.log, self.clock) for _ in range(2)]
        self.owners[0].publish()

    @rule(room=st.integers(0, 1), count=st.integers(1, 4))
    def accept(self, room: int, count: int) -> None:
        drafts = [make.draft(conversationId=self.rooms[room]) for _ in range(count)]
        asyncio.run(MemoryIntake(self.tables).accept(drafts))

    @rule(who=st.integers(0, 1), room=st.integers(0, 1), count=st.integers(1, 4))
    def accept_beside_a_relay(self, who: int, room: int, count: int) -> None:
        drafts = [make.draft(conversationId=self.rooms[room]) for _ in range(count)]
        outcomes = asyncio.run(MemoryIntake(self.tables).accept(drafts))
        events = [MessageCreated(message=outcome.message) for outcome in outcomes if isinstance(outcome, Accepted)]
        rows = [Owed(e.conversation_id, e.seq, e.TOPIC, encode(e), e.event_id) for e in events]
        self.owners[who].relay.publish_soon(rows)

    @rule(who=st.integers(0, 1))
    def mark(self, who: int) -> None:
        owner = self.owners[who]
        asyncio.run(owner.relay.mark(owner.outbox))

    @rule(who=st.integers(0, 1))
    def read(self, who: int) -> None:
        """Half a second is over, or another process has announced rows."""
        self.owners[who].relay.wake()

    @rule(who=st.integers(0, 1))
    def publish(self, who: int) -> None:
        self.owners[who].publish()

    @rule(who=st.integers(0, 1), takes=st.integers(0, 3))
    def publish_in_part(self, who: int, takes: int) -> None:
        self.log.takes = takes
        self.owners[who].publish()
        self.log.takes = None

    @rule(who=st.integers(0, 1))
    def crash_before_the_mark(self, who: int) -> None:
        self.log.crashes = True
        self.owners[who].publish()
        self.log.crashes = False

    @rule()
    def lose_the_log(self) -> None:
        self.log.lose()
        self.clock[0] += 3.0  # a broker needs more than RESTART_S to come back

    @rule()
    def lose_the_records(self) -> None:
        """Also between two comparisons: the topics are still there, and the broker is the same."""
        self.log.lose_records()
        self.clock[0] += 3.0

    @rule(seconds=st.sampled_from([0.5, 1.5, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock[0] += seconds

    @rule(keep=st.integers(0, 3))
    def owe_again(self, keep: int) -> None:
        """By hand, what is newer than some moment."""
        for (_, seq, _), row in self.tables.outbox.items():
            if seq > keep:
                row.published, row.again = False, row.again or row.published

    def published(self, room: str) -> list[int]:
        mine = [decode(r.topic, r.key, r.value) for r in self.log.records if r.key == room.encode()]
        return [event.seq if isinstance(event, MessageCreated) else 0 for event in mine]

    @invariant()
    def first_occurrences_are_in_order_without_holes(self) -> None:
        for room in self.rooms:
            first = list(dict.fromkeys(self.published(room)))
            assert first == list(range(len(first)))

    def teardown(self) -> None:
        self.clock[0] += 10.0
        for _ in range(3):
            self.owners[0].relay.wake()
            self.owners[0].publish()
        for room in self.rooms:
            assert set(self.published(room)) == set(range(self.tables.conversations[room].last_seq + 1))


TestRelays = Relays.TestCase
TestRelays.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
