"""Growth: the same call in databases of ten thousand, a hundred thousand and a million messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from bench.grown import CALLS, Grown, Prepare, grown
from bench.pairs import Pair, Point, Result, in_rotation
from bench.process import BenchError
from bench.world import World

SIZES = (10_000, 100_000, 1_000_000)
_TARGET = 1.3
_MOST_PAIRS = 10
"""Each receipt needs a message that was not received yet."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """Call to a database. ``calls``: of a measurement. ``vacuums``: each follows a vacuum, for it leaves dead rows."""

    title: str
    of: Callable[[Grown], Prepare]
    calls: int = CALLS
    vacuums: bool = False


OPERATIONS: Mapping[str, _Operation] = {
    "store-1": _Operation("Storing a message", lambda db: lambda: db.store(1)),
    "store-16": _Operation("Storing 16 messages together", lambda db: lambda: db.store(16)),
    "page": _Operation("The newest 50 messages of a large conversation", lambda db: db.page),
    "resume": _Operation("Resuming a large conversation, 200 entries", lambda db: db.resume),
    "list": _Operation("The list of a member of 2,000 conversations", lambda db: db.listed),
    "receipt": _Operation("A receipt of the next message", lambda db: db.receipt),
    "receipt-far": _Operation("A receipt that is 1,000 messages further", lambda db: db.far_receipt, 40, True),
    "search": _Operation("A search by a member of 50 conversations", lambda db: lambda: db.search("seeker")),
    "search-large": _Operation("A search by a member of the largest conversation", lambda db: lambda: db.search("u5")),
    "audit": _Operation("The audit of one conversation, in the store", lambda db: db.audit),
}


async def measure(world: World, pairs: int, _: float) -> list[Result]:
    """Measure the milliseconds of each call, and the bytes of a message. Raises BenchError."""
    if pairs > _MOST_PAIRS:
        raise BenchError(f"growth takes at most {_MOST_PAIRS} pairs")
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(grown(world.postgres.dsn, size)) for size in SIZES]
        results = [await _result(name, databases, pairs) for name in OPERATIONS]
        return [*results, await _wal(databases, pairs)]


async def _result(name: str, databases: Sequence[Grown], pairs: int) -> Result:
    operation = OPERATIONS[name]
    measures = [_measure(operation, database) for database in databases]
    for measure in measures:
        await measure()  # the caches are warm
    rounds = await in_rotation(pairs, measures)
    return Result(
        name=f"growth-{name}",
        title=f"{operation.title}, among {SIZES[-1]:,} messages",
        unit="ms",
        reference=f"the same among {SIZES[0]:,}",
        included=(
            f"The median of {operation.calls} calls in each measurement, one after the other, through the adapter of "
            "PostgreSQL; not the HTTP API. The databases lie in one server; a vacuum with analysis has seen them."
        ),
        target=_TARGET,
        wanted="at most",
        pairs=[Pair(ms[-1], ms[0], load) for ms, load in rounds],
        points=[
            Point(f"{size:,} messages", median(ms[n] for ms, _ in rounds), median(ms[0] for ms, _ in rounds))
            for n, size in enumerate(SIZES)
        ],
    )


def _measure(operation: _Operation, database: Grown) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        if operation.vacuums:
            await database.vacuum()
        return await database.median_ms(operation.of(database), operation.calls)

    return measure


async def _wal(databases: Sequence[Grown], pairs: int) -> Result:
    rounds = await in_rotation(pairs, [database.wal_bytes for database in databases])
    whole = [([each["whole"] for each in found], load) for found, load in rounds]
    return Result(
        name="growth-wal",
        title=f"WAL of a message, among {SIZES[-1]:,}",
        unit="bytes",
        reference=f"the same among {SIZES[0]:,}",
        included=(
            "Stored 16 at a time, marked as published, marked as sent, and made a document of the search; without "
            "receipts. `more` has the bytes on disk of a row of each table, with its indexes; published events are "
            "kept for two of the thirty days."
        ),
        target=_TARGET,
        wanted="at most",
        pairs=[Pair(found[-1], found[0], load) for found, load in whole],
        points=[
            Point(f"{size:,} messages", median(f[n] for f, _ in whole), median(f[0] for f, _ in whole))
            for n, size in enumerate(SIZES)
        ],
        more={
            "stored_bytes": [round(median(found[n]["stored"] for found, _ in rounds)) for n in range(len(SIZES))],
            **{f"disk_bytes_{database.size}": await database.disk_bytes() for database in databases},
        },
    )
