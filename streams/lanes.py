"""Lanes: one conversation is worked on in order, many at the same time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
_EMPTY_TURNS = 3


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """At most ``lanes`` batches of at most ``batch`` items at the same time.

    The broker gathers records for up to ``gather_s`` before it answers, so that few fetches bring many.
    """

    lanes: int = 16
    batch: int = 200
    gather_s: float = 0.0


LOW_LATENCY = BatchPolicy()
THROUGHPUT = BatchPolicy(lanes=1, batch=500, gather_s=0.2)
"""For work that nobody waits for on a screen: it costs less in few batches."""


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Bounded queues, each with one worker that takes what is there: batches grow with the load and cost no waiting.

    ``work`` gets a batch in order of arrival. A full lane holds back all of them, which is the back-pressure.
    """

    work: Callable[[Sequence[T]], Awaitable[None]]
    policy: BatchPolicy = LOW_LATENCY
    _queues: list[asyncio.Queue[T]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queues = [asyncio.Queue(2 * self.policy.batch) for _ in range(self.policy.lanes)]

    async def put(self, key: bytes | None, item: T) -> None:
        """Queue an item behind all others with its key."""
        await self._queues[zlib.crc32(key or b"") % self.policy.lanes].put(item)

    async def run(self) -> None:
        """Work for ever. Raises what ``work`` raises: then all lanes have stopped."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(self._lane(queue))

    async def _lane(self, queue: asyncio.Queue[T]) -> None:
        while True:
            batch = [await queue.get()]
            await self._fill(queue, batch)
            await self.work(batch)

    async def _fill(self, queue: asyncio.Queue[T], batch: list[T]) -> None:
        """Add what is queued. Faust hands out a fetch record by record, each in a turn or two of the loop."""
        empty = 0
        while len(batch) < self.policy.batch and empty < _EMPTY_TURNS:
            if queue.empty():
                empty += 1
                await asyncio.sleep(0)
            else:
                empty = 0
                batch.append(queue.get_nowait())
