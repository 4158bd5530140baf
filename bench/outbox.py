"""The relay's work beside an open snapshot, as of a dump: its query and its mark after many rows were published."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from statistics import median
from urllib.parse import urlsplit

from adapters.postgres import change_log
from adapters.postgres.migrate import ensure_database, migrate
from adapters.postgres.outbox import PostgresOutbox, open_outbox
from adapters.postgres.pool import Pool, connection, open_pool, transaction
from bench.pairs import Result, in_turns
from bench.world import World
from domain.changes import OutboxEntry
from domain.log_position import Position
from schemas.clock import now
from schemas.events import MessageCreated
from schemas.ids import new_id
from schemas.messages import Message

ROWS, BATCH, ROOMS = 100_000, 500, 200
BATCHES = 20
"""Batches of a measurement."""
_TARGET = 2.0
_PARTITIONS = 12


async def measure(world: World, pairs: int, _: float) -> list[Result]:
    """Measure a batch (query and mark) beside a snapshot that is older than all rows, and in an outbox that is new."""
    other = (
        urlsplit(world.postgres.dsn)._replace(path="/new").geturl()
    )  # what a snapshot keeps is kept in its own database only
    ensure_database(other)
    migrate(other)

    async def reference() -> float:
        async with _open_relay(other) as relay:
            await relay.empty()
            return await relay.batches(BATCHES)

    async with _open_relay(world.postgres.dsn) as relay, _snapshot(relay.pool):
        await relay.batches(ROWS // BATCH)
        taken = await in_turns(pairs, lambda: relay.batches(BATCHES), reference)
    return [
        Result(
            name="outbox",
            title=f"A batch of the relay, {ROWS:,} published rows after a snapshot that stays open",
            unit="ms",
            reference="the same in an outbox that is new, without a snapshot",
            included=f"query and mark of {BATCH} rows in {ROOMS} conversations, the median of {BATCHES}; not Kafka",
            target=_TARGET,
            wanted="at most",
            pairs=taken,
            more={"rows": ROWS},
        )
    ]


class _Relay:
    """Owes rows and publishes them, without a broker."""

    def __init__(self, pool: Pool, outbox: PostgresOutbox) -> None:
        self.pool, self.outbox = pool, outbox
        self.seqs = {new_id(): 0 for _ in range(ROOMS)}
        self.end = 0

    async def owe(self) -> None:
        """Owe a batch, evenly in all conversations."""
        rooms = (list(self.seqs) * (BATCH // ROOMS + 1))[:BATCH]
        entries = []
        for room in rooms:
            self.seqs[room] += 1
            entries.append(OutboxEntry(self.seqs[room], _event(room, self.seqs[room])))
        async with connection(self.pool) as conn:
            await change_log.owe(conn, entries)

    async def batches(self, count: int) -> float:
        """Publish so many batches; return the median of their milliseconds."""
        taken = []
        for _ in range(count):
            await self.owe()
            began = time.perf_counter()
            rows = await self.outbox.unpublished(BATCH)
            await self.outbox.mark(rows, self._ends())
            taken.append((time.perf_counter() - began) * 1000)
            if len(rows) != BATCH:
                raise ValueError(f"{len(rows)} rows were owed, and {BATCH} were expected")
        return median(taken)

    def _ends(self) -> Mapping[str, int]:
        self.end += BATCH
        return {f"message.created/{n}": self.end for n in range(_PARTITIONS)}

    async def empty(self) -> None:
        """Make the outbox as good as new."""
        async with connection(self.pool) as conn:
            await conn.execute("TRUNCATE outbox, outbox_floors, log_ends")


@asynccontextmanager
async def _open_relay(dsn: str) -> AsyncIterator[_Relay]:
    async with open_pool(dsn, size=3, wait_s=30) as pool, open_outbox(dsn) as outbox:
        await outbox.compare(Position(cluster_id="bench", replication=1, ends={}))
        await outbox.claim()
        yield _Relay(pool, outbox)


@asynccontextmanager
async def _snapshot(pool: Pool) -> AsyncIterator[None]:
    """Keep a snapshot open while the block runs, as a dump does."""
    async with transaction(pool) as conn:
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await conn.execute("SELECT count(*) FROM outbox")
        yield


def _event(room: str, seq: int) -> MessageCreated:
    message = Message(
        message_id=new_id(),
        conversation_id=room,
        seq=seq,
        sender_id="u0",
        type="text",
        content="x" * 200,
        created_at=now(),
    )
    return MessageCreated(message=message)
