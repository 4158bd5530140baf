"""The outbox and the relay under whatever happens: late commits, crashes, losses, republishes, other owners."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from adapters.memory.log import MemoryLog
from adapters.postgres.conninfo import parameters
from adapters.postgres.outbox import PostgresOutbox, open_outbox, republish
from adapters.postgres.pool import Connection, Pool
from domain.errors import Unavailable
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from schemas.codec import Record, decode
from schemas.events import MessageCreated
from schemas.ids import new_id
from tests.outboxes import empty_outbox, owe


@pytest.fixture(autouse=True)
async def empty(pool: Pool) -> None:
    """Each test begins with an outbox that owes nothing."""
    await empty_outbox(pool)


@dataclass
class CrashingLog(MemoryLog):
    """Takes ``takes`` records, and then its writer dies, when told so."""

    takes: int | None = None
    crashes: bool = False

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        ends = await MemoryLog.append(self, records[: self.takes])
        if self.crashes:
            raise Unavailable("it is unknown what was written")
        return ends


@dataclass
class Trial:
    """Writers, relays and operators, one step at a time, in an order that a seed determines."""

    dice: random.Random
    dsn: str
    pool: Pool
    log: CrashingLog = field(default_factory=lambda: CrashingLog())
    clock: list[float] = field(default_factory=lambda: [0.0])
    rooms: list[str] = field(default_factory=lambda: [new_id() for _ in range(4)])
    heads: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    open: dict[str, Connection] = field(default_factory=dict)
    """Transactions that hold a conversation and are not committed."""
    relay: Relay | None = None
    outbox: PostgresOutbox | None = None
    owner: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def change_owner(self) -> None:
        await self.owner.aclose()
        self.owner = AsyncExitStack()
        self.outbox = await self.owner.enter_async_context(open_outbox(self.dsn))
        self.outbox.floors.raise_after = self.dice.randint(1, 5)
        detector = LossDetector(self.log, clock=lambda: self.clock[0], confirm_s=0)
        self.relay = Relay(lambda: None, self.log, detector)
        await self.outbox.claim()

    async def accept(self) -> None:
        room = self.dice.choice(self.rooms)
        if room in self.open:
            await self.open[room].commit()
            await self.open.pop(room).close()
            return
        conn = await psycopg.AsyncConnection.connect(self.dsn, **{**parameters(self.dsn), "autocommit": False})
        seqs = range(self.heads[room] + 1, self.heads[room] + self.dice.randint(2, 6))
        await owe(conn, room, *seqs)
        self.heads[room] = seqs[-1]
        self.open[room] = conn

    async def publish(self) -> None:
        assert self.relay and self.outbox
        self.outbox.floors._look_at = 0.0
        if self.dice.random() < 0.5:
            self.relay.wake()
        await self.relay.publish(self.outbox)

    async def crash(self) -> None:
        """The batch is in the log, in part or all of it, and not marked."""
        self.log.takes = self.dice.choice([None, 3])
        self.log.crashes = True
        with suppress(Unavailable):
            await self.publish()
        self.log.takes, self.log.crashes = None, False
        await self.change_owner()

    async def lose(self) -> None:
        self.check()
        self.log.lose_records()
        self.clock[0] += 3.0
        await self.publish()

    async def republish(self) -> None:
        room = self.dice.choice([*self.rooms, None])
        await republish(self.pool, datetime.now(UTC) - timedelta(seconds=self.dice.choice([0.05, 60])), room)

    def check(self) -> None:
        """In each log the first occurrences of a conversation are in the order of seqs."""
        for room in self.rooms:
            first = list(dict.fromkeys(self.seqs(room)))
            assert first == list(range(1, len(first) + 1))

    def seqs(self, room: str) -> Sequence[int]:
        events = [decode(r.topic, r.key, r.value) for r in self.log.records if r.key == room.encode()]
        return [event.message.seq for event in events if isinstance(event, MessageCreated)]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_log_has_each_conversation_in_order_and_in_the_end_all_of_it(
    pool: Pool, pg_dsn: str, seed: int
):
    trial = Trial(random.Random(seed), pg_dsn, pool)
    await trial.change_owner()
    steps = [(trial.accept, 12), (trial.publish, 8), (trial.crash, 1), (trial.lose, 1), (trial.republish, 1)]
    steps.append((trial.change_owner, 1))
    for step in trial.dice.choices([step for step, _ in steps], [weight for _, weight in steps], k=120):
        await step()
        trial.check()
    for room, conn in list(trial.open.items()):
        await conn.commit()
        await conn.close()
        del trial.open[room]
    assert trial.relay and trial.outbox
    trial.relay.wake()
    while await trial.relay.publish(trial.outbox):
        trial.relay.wake()
    trial.check()
    assert {room: max(trial.seqs(room), default=0) for room in trial.rooms} == {r: trial.heads[r] for r in trial.rooms}
    await trial.owner.aclose()
