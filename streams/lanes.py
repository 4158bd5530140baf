"""Lanes: one conversation is worked on in order, many at the same time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

LANES = 16
BATCH = 200
_WAITING = 2 * BATCH


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Bounded queues, each with one worker that takes what is there: batches grow with the load and cost no waiting.

    ``work`` gets a batch in order of arrival. A full lane holds back all of them, which is the back-pressure.
    """

    work: Callable[[Sequence[T]], Awaitable[None]]
    count: int = LANES
    batch: int = BATCH
    _queues: list[asyncio.Queue[T]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queues = [asyncio.Queue(_WAITING) for _ in range(self.count)]

    async def put(self, key: bytes | None, item: T) -> None:
        """Queue an item behind all others with its key."""
        await self._queues[zlib.crc32(key or b"") % self.count].put(item)

    async def run(self) -> None:
        """Work for ever. Raises what ``work`` raises: then all lanes have stopped."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(self._lane(queue))

    async def _lane(self, queue: asyncio.Queue[T]) -> None:
        while True:
            batch = [await queue.get()]
            while len(batch) < self.batch and not queue.empty():
                batch.append(queue.get_nowait())
            await self.work(batch)
