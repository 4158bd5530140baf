"""Reads that a replica answers when it has all that the caller can have seen, and else the primary.

Each read asks the primary where its log ends, which is one small statement for all reads that ask at the same time, and
then the replica, in the session of the read, whether it has replayed that. Nobody notices a replica that is away, lags,
was promoted, or cancels a read for the sake of its replay.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
import structlog

from adapters.postgres.conninfo import parts_of
from adapters.postgres.pool import Connection, Pool, connection, open_pool
from adapters.postgres.statements import load
from domain.errors import Invalid, Unavailable
from domain.replicas import IN_WORDS, Doubt, Gate, LagMeter, Position, Replayed, doubt, is_ahead
from runtime.dataloader import DataLoader
from runtime.metrics import READS, REPLICA_LAG_BYTES, REPLICA_LAG_SECONDS, REPLICA_REFUSALS

_log = structlog.get_logger()
_SQL = load("replica")

T = TypeVar("T")
Work: TypeAlias = Callable[[Connection], Awaitable[T]]

_TURN_S = 0.2
"""Seconds that a read waits for a session of the replica."""
_LOOK_S = 0.5
"""Seconds in which a look must end, beside the wait for the replay."""
_OF_ONE_READ = frozenset({"21", "22", "23", "40"})
"""Classes of SQLSTATE that say nothing about the server: of values, and of a read that stood in the way of replay."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.016
_UNUSED_S = 10.0
"""Seconds after which operators are told that the replica is not read."""


@dataclass(frozen=True, slots=True)
class ReadBounds:
    """Bounds of a read on a replica, in seconds, after which the primary answers.

    ``catch_up_s``: until the replica has replayed what the read needs. ``answer_s``: until the read has ended.
    """

    catch_up_s: float = 0.03
    answer_s: float | None = 1.0


_USUAL = ReadBounds()


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    value: T


@dataclass(slots=True, eq=False)
class _Attempt(Generic[T]):
    """Work on the replica. What takes too long is cut off, so that a stuck server keeps nothing of ours."""

    pool: Pool
    work: Work[_Answer[T] | Doubt]
    conn: Connection | None = None

    async def run(self) -> _Answer[T] | Doubt:
        """Return the answer, or why there is none."""
        try:
            async with self.pool.connection() as self.conn:
                return await self.work(self.conn)
        except psycopg.Error as exc:
            return _doubt_of(exc)
        except (OSError, TimeoutError):
            return Doubt.AWAY

    def cut(self) -> None:
        """End the connection, if there is one by now, without a word to the server."""
        with suppress(OSError, psycopg.Error):
            if self.conn is not None:
                with socket.socket(fileno=os.dup(self.conn.pgconn.socket)) as line:
                    line.shutdown(socket.SHUT_RDWR)


def _doubt_of(exc: psycopg.Error) -> Doubt:
    """Return what an error on a replica says about it. An error of the values is the primary's to raise."""
    state = exc.sqlstate or ""
    if state[:2] in _OF_ONE_READ:
        return Doubt.CONFLICT
    return Doubt.SLOW if state == "57014" else Doubt.AWAY


@dataclass(slots=True, eq=False)
class Replica:
    """A replica, with the primary that answers in its place."""

    primary: Pool
    pool: Pool
    bounds: ReadBounds
    gate: Gate = field(default_factory=Gate)
    _lag: LagMeter = field(default_factory=LagMeter)
    _attempts: set[_Attempt[Any]] = field(default_factory=set)
    _positions: DataLoader[None, Position] = field(init=False)

    def __post_init__(self) -> None:
        self._positions = DataLoader(self._read_position)

    async def read(self, work: Work[T]) -> T:
        """Return what the work reads; it may run twice. Raises Unavailable, and what the work raises."""
        if self.gate.is_open:
            found = await self._on_replica(work)
            if isinstance(found, _Answer):
                READS.labels("replica").inc()
                return found.value
            REPLICA_REFUSALS.labels(found.value).inc()
            self._note(self.gate.failed(found, _now()))
        READS.labels("primary").inc()
        async with connection(self.primary) as conn:
            return await work(conn)

    async def _on_replica(self, work: Work[T]) -> _Answer[T] | Doubt:
        try:
            needed = await self._positions.get(None)
        except Unavailable:
            return Doubt.NO_POSITION

        async def once_fresh(conn: Connection) -> _Answer[T] | Doubt:
            return await self._catch_up(conn, needed) or _Answer(await work(conn))

        return await self._attempt(once_fresh, self.bounds.answer_s)

    async def _attempt(self, work: Work[_Answer[T] | Doubt], within_s: float | None) -> _Answer[T] | Doubt:
        attempt = _Attempt(self.pool, work)
        self._attempts.add(attempt)
        task = asyncio.create_task(attempt.run())
        task.add_done_callback(lambda _: self._attempts.discard(attempt))
        task.add_done_callback(_retrieved)
        done, _ = await asyncio.wait({task}, timeout=within_s)
        if done:
            return task.result()
        attempt.cut()
        return Doubt.SLOW

    async def _catch_up(self, conn: Connection, needed: Position) -> Doubt | None:
        """Wait a moment until the server has replayed so much; return why it must not answer."""
        until, pause = _now() + self.bounds.catch_up_s, _FIRST_PAUSE_S
        while (found := doubt(needed, await replayed(conn))) is Doubt.LAGGING and _now() + pause < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return found

    async def watch(self) -> None:
        """Look at the replica again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.gate.pause_s())

    async def look(self) -> None:
        """Measure the lag; open the gate when the replica is fresh, else shut it.

        Sessions with a server that is no replica of this primary are given up: where the connection string leads to
        several servers, the next may be.
        """
        found = await self._attempt(self._looked, _LOOK_S + self.bounds.catch_up_s)
        self._note(self.gate.looked(None if isinstance(found, _Answer) else found, _now()))
        if found in {Doubt.PROMOTED, Doubt.OTHER_HISTORY}:
            await self.pool.drain()

    async def _looked(self, conn: Connection) -> _Answer[None] | Doubt:
        before = await replayed(conn)
        try:
            needed = await self._positions.get(None)
        except Unavailable:
            return Doubt.NO_POSITION
        afterwards = await replayed(conn)
        self._show_lag(needed.lsn, afterwards.position.lsn)
        if is_ahead(before, needed):
            return Doubt.OTHER_HISTORY
        return await self._catch_up(conn, needed) or _Answer(None)

    def _show_lag(self, primary_lsn: int, replayed_lsn: int) -> None:
        REPLICA_LAG_BYTES.labels("replica").set(max(0, primary_lsn - replayed_lsn))
        REPLICA_LAG_SECONDS.labels("replica").set(self._lag.seconds(primary_lsn, replayed_lsn, _now()))

    def _note(self, has_turned: bool) -> None:
        if has_turned and self.gate.is_open:
            _log.info("replica_read", server="replica")
        elif has_turned:
            _log.warning("replica_not_read", server="replica", reason=self.gate.reason)

    async def _read_position(self, _: Sequence[None]) -> dict[None, Position]:
        async with connection(self.primary) as conn:
            [row] = await rows_of(_SQL["position"], {}, conn)
            return {None: Position(*row)}

    def warnings(self) -> Sequence[str]:
        """Return what operators should know: the replica has not been read for a while, and why."""
        if self.gate.reason is None or self.gate.shut_s(_now()) < _UNUSED_S:
            return ()
        return (f"PostgreSQL's replica {IN_WORDS[self.gate.reason]}; the primary answers all reads",)

    def cut_off(self) -> None:
        """End what is still asked of the replica."""
        for attempt in self._attempts:
            attempt.cut()


async def replayed(conn: Connection) -> Replayed:
    """Return how far the server of this session is."""
    [(system, timeline, epoch, lsn, is_standby, pid)] = await rows_of(_SQL["replayed"], {}, conn)
    return Replayed(Position(system, timeline, epoch, lsn), is_standby, pid == conn.info.backend_pid)


async def read(pool: Pool, replica: Replica | None, work: Work[T]) -> T:
    """Return what the work reads, on the replica if there is one and it is fresh, else on the primary, ``pool``.

    Raises Unavailable.
    """
    if replica is not None:
        return await replica.read(work)
    async with connection(pool) as conn:
        return await work(conn)


async def rows_of(statement: Any, params: Any, conn: Connection) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    return await (await conn.execute(statement, params)).fetchall()


@asynccontextmanager
async def open_replica(
    dsn: str, primary: Pool, *, size: int = 5, bounds: ReadBounds = _USUAL
) -> AsyncIterator[Replica | None]:
    """Yield the replica of this primary, if it has one: None for an empty DSN. It may be away, and come later.

    Raises Invalid for a connection string that cannot work.
    """
    if not dsn:
        yield None
        return
    try:
        parts_of(dsn)
    except ValueError as exc:
        raise Invalid("MILLRACE_PG__REPLICA_DSN must be a connection string of libpq, or a URI postgresql://…") from exc
    statement_s = 5.0 if bounds.answer_s is None else bounds.answer_s
    async with open_pool(dsn, name="replica", size=size, wait_s=0, turn_s=_TURN_S, statement_s=statement_s) as pool:
        replica = Replica(primary, pool, bounds)
        await replica.look()
        watching = asyncio.create_task(replica.watch())
        try:
            yield replica
        finally:
            watching.cancel()
            replica.cut_off()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
