"""Outbox in PostgreSQL. One connection holds the locks *and* does the work: without it, no ownership.

Each query costs the same however much was published before, and beside any open snapshot: ``outbox_floors`` says how.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from adapters.postgres import rows as from_rows
from adapters.postgres.conninfo import parameters
from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.outbox_floors import Floors
from adapters.postgres.ping import Answer, Server
from adapters.postgres.pool import LOOK_S, Connection, Pool, connection, open_session, transaction
from adapters.postgres.pooler import connect
from adapters.postgres.statements import load
from domain.errors import Unavailable
from domain.log_position import Position, loss
from domain.outbox import TOLD_AFTER_S, Entered, Loss, Owed, ReadAgain
from schemas.codec import encode
from schemas.events import MessageCreated
from schemas.ids import OUTBOX_SHARDS

_log = structlog.get_logger()

_SQL = load("outbox")
_ALL = {"since": None, "conversation_id": None, "told_after_s": TOLD_AFTER_S}
_LOCK_SPACE = 0x4F555442  # "OUTB": apart from other advisory locks


@dataclass(slots=True)
class PostgresOutbox:
    """Outbox on a connection of its own."""

    conn: Connection
    owned: set[int] = field(default_factory=set)
    epoch: int = 0
    compared: int | None = None
    """Epoch of the latest comparison."""
    floors: Floors = field(init=False)

    def __post_init__(self) -> None:
        self.floors = Floors(self.conn)

    @property
    def shards(self) -> frozenset[int]:
        return frozenset(self.owned)

    async def claim(self) -> None:
        missing = sorted(set(range(OUTBOX_SHARDS)) - self.owned)
        if not missing:
            return
        with unavailable_on_outage():
            cursor = await self.conn.execute(_SQL["claim"], {"shards": missing, "space": _LOCK_SPACE})
            self.owned.update(row[0] for row in await cursor.fetchall())

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        with unavailable_on_outage():
            await self.floors.rise(self.owned)
            cursor = await self.conn.execute(_SQL["unpublished"], {"shards": list(self.owned), "limit": limit})
            found = await cursor.fetchall()
            events = await self._events([(row[0], row[1]) for row in found if row[3] is None])
        owed = [
            Owed(id_, seq, topic, events.get((id_, seq), b"") if value is None else value, *rest)
            for id_, seq, topic, value, *rest in found
        ]
        if gone := [row for row in owed if not row.value]:
            _log.error("events_given_up", count=len(gone), reason="somebody has deleted the rows of their messages")
            await self.mark(gone, {})
        return [row for row in owed if row.value]

    async def _events(self, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        """Return (conversation, seq) → the event of the message there."""
        if not places:
            return {}
        wanted = {"conversations": [id_ for id_, _ in places], "seqs": [seq for _, seq in places]}
        found = await (await self.conn.execute(_SQL["messages"], wanted)).fetchall()
        events = [from_rows.created(row) for row in found]
        return {(event.conversation_id, event.seq): encode(event) for event in events}

    async def mark(self, rows: Sequence[Owed], ends: Mapping[str, int]) -> bool:
        with unavailable_on_outage():
            done = {
                "conversations": [r.conversation_id for r in rows],
                "seqs": [r.seq for r in rows],
                "parts": [r.part for r in rows],
                "event_ids": [r.event_id for r in rows],
                "epoch": self.epoch,
                **_columns(ends),
            }
            cursor = await self.conn.execute(_SQL["mark"], done)
        self.floors.marked(cursor.rowcount)
        return cursor.rowcount > 0

    async def compare(self, found: Position, again: ReadAgain | None = None) -> Loss | None:
        with unavailable_on_outage():
            async with self.conn.transaction():
                noted = await self._noted(found)
                if noted is None:
                    return None
                if again is not None and loss(noted, found) is not None:
                    found = await again(noted)
                lost = await self._compare(noted, found)
            if lost is None and self.compared not in (None, self.epoch):
                lost = Loss("another relay has found a loss", 0, known=True)
            self.compared = self.epoch
            return lost

    async def _noted(self, found: Position) -> Position | None:
        """Return the noted position of the log; no other relay notes one until our transaction ends."""
        if not found.missing:
            await self.conn.execute(
                _SQL["first_note"], {"cluster_id": found.cluster_id, "replication": found.replication}
            )
        state = await (await self.conn.execute(_SQL["state"])).fetchone()
        if state is None:
            return None
        cluster_id, replication, self.epoch = state
        ends = await (await self.conn.execute(_SQL["ends"], {"epoch": self.epoch})).fetchall()
        return Position(cluster_id=cluster_id, replication=replication, ends=dict(ends))

    async def _compare(self, noted: Position, found: Position) -> Loss | None:
        what, rows = loss(noted, found), 0
        if what is not None:
            self.epoch += 1
            # The new log may have a number of replicas that nobody chose.
            state = {"cluster_id": found.cluster_id, "replication": noted.replication, "epoch": self.epoch}
            await self.conn.execute(_SQL["no_hurry"])
            rows = await _republish(self.conn, _ALL)
            await self.conn.execute(_SQL["note_loss"], state)
        elif found.missing:
            return None
        before = noted.ends if what is None else {}
        further = {place: end for place, end in found.ends.items() if end > before.get(place, -1)}
        if further:
            await self.conn.execute(_SQL["note_ends"], {"epoch": self.epoch, **_columns(further)})
        return None if what is None else Loss(what, rows)

    async def begin_epoch(self) -> str:
        with unavailable_on_outage():
            row = await (await self.conn.execute(_SQL["epoch"])).fetchone()
        if row is None:  # it began with this statement, which does not see it
            return await self.begin_epoch()
        return str(row[0])

    async def noted(self) -> Position | None:
        with unavailable_on_outage():
            state = await (await self.conn.execute(_SQL["noted"])).fetchone()
            if state is None:
                return None
            cluster_id, replication, epoch = state
            ends = await (await self.conn.execute(_SQL["ends"], {"epoch": epoch})).fetchall()
        return Position(cluster_id=cluster_id, replication=replication, ends=dict(ends))

    async def first_lacking(self, events: Sequence[Entered]) -> int | None:
        if not events:
            return None
        with unavailable_on_outage():
            row = await (await self.conn.execute(_SQL["lacking"], {**lookup(events), "limit": 1})).fetchone()
        return None if row is None else int(row[0]) - 1

    async def noted_replication(self) -> int | None:
        with unavailable_on_outage():
            row = await (await self.conn.execute(_SQL["replication"])).fetchone()
            return None if row is None else int(row[0])


def lookup(events: Sequence[Entered]) -> dict[str, Any]:
    """Return the parameters by which SQL looks up the entries of events."""
    changes = [None if isinstance(event, MessageCreated) else event for event in events]
    return {
        "conversations": [event.conversation_id for event in events],
        "seqs": [event.seq for event in events],
        "messages": [event.message.message_id if isinstance(event, MessageCreated) else None for event in events],
        "kinds": [change and change.change for change in changes],
        "users": [change and change.user_id for change in changes],
        "times": [change and change.at for change in changes],
    }


def _columns(ends: Mapping[str, int]) -> dict[str, Any]:
    return {"places": list(ends), "ends": list(ends.values())}


async def _republish(conn: Connection, which: Mapping[str, Any]) -> int:
    """Owe retained events again, in a transaction; return their number, with those that were owed again before."""
    await conn.execute(_SQL["one_at_a_time"], {"space": _LOCK_SPACE})
    return (await conn.execute(_SQL["republish"], which)).rowcount


@asynccontextmanager
async def open_outbox(dsn: str) -> AsyncIterator[PostgresOutbox]:
    """Yield an outbox that owns no shard yet. Raises Unavailable."""
    async with open_session(dsn) as conn:
        with unavailable_on_outage():
            await conn.execute(_SQL["let_go"])
            await conn.execute(_SQL["by_index"])
        yield PostgresOutbox(conn)


async def announcements(dsn: str) -> AsyncIterator[None]:
    """Yield once listening, and then whenever another process announces outbox rows. Raises Unavailable, also when the
    server shuts down; Invalid when a pooler stands before it."""
    with unavailable_on_outage():
        async with await connect(dsn, parameters(dsn)) as conn:
            server = Server.of(conn)
            await conn.execute(_SQL["listen"])
            yield None
            while await server.ping() is not Answer.REFUSES:
                async for _ in conn.notifies(timeout=LOOK_S):
                    yield None
    raise Unavailable("PostgreSQL takes no new sessions; try again")


async def republish(pool: Pool, since: datetime, conversation_id: str | None) -> int:
    """Owe the retained events since then again; return their number. Raises Unavailable."""
    async with transaction(pool) as conn:
        await conn.execute(_SQL["no_hurry"])
        which = {"since": since, "conversation_id": conversation_id, "told_after_s": 0}
        rows = await _republish(conn, which)
        await conn.execute(_SQL["announce"])
        _log.debug("events_owed_again", conversation_id=conversation_id, rows=rows)
        return rows


async def owed(pool: Pool, until: datetime, conversation_id: str | None) -> int:
    """Return the number of events made until then that are not published. Raises Unavailable."""
    async with connection(pool) as conn:
        found = await conn.execute(_SQL["owed"], {"until": until, "conversation_id": conversation_id})
        row = await found.fetchone()
    return int(row[0]) if row else 0


async def oldest_unpublished(pool: Pool) -> datetime | None:
    """Return the time of the oldest row that is not published, of any shard; None without one. Raises Unavailable."""
    async with connection(pool) as conn:
        row = await (await conn.execute(_SQL["oldest"], {"shards": list(range(OUTBOX_SHARDS))})).fetchone()
    return row[0] if row else None


async def announce(pool: Pool) -> None:
    """Tell the relays of other processes that there are new rows. Raises Unavailable."""
    async with connection(pool) as conn:
        await conn.execute(_SQL["announce"])
