"""Lanes: one conversation is worked on in order, many at the same time, and each in its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
_EMPTY_TURNS = 3


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """At most ``lanes`` batches at the same time, each of at most ``batch`` items with at most ``keys`` keys.

    While there are records, the broker gathers them for up to ``gather_s`` before it answers, so that few fetches bring
    many.
    """

    lanes: int = 16
    batch: int = 200
    gather_s: float = 0.0
    keys: int = 1
    most: int = 0
    """Items that may be queued; 0 for two batches of each lane. One key may fill them, and then holds back others."""


LOW_LATENCY = BatchPolicy(keys=64)
FEW_LANES = 4
"""Lanes of events that must not hold up others: they leave most connections of the pool to these."""
THROUGHPUT = BatchPolicy(lanes=4, batch=500, gather_s=0.2, keys=500)
"""For work that nobody waits for on a screen: it costs less in few batches. The other lanes work only while a batch
takes longer than the next fetch."""


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Queues by key, and a bounded number of workers that take what is there: batches grow with the load and cost no
    waiting.

    Keys are taken in turn, an item of each at a time, and a key is in one batch at a time. ``work`` gets the items of
    a key in their order, and returns the positions of those that it leaves for a later turn. Too many queued items hold
    back ``put``, which is the back-pressure.
    """

    work: Callable[[Sequence[T]], Awaitable[Collection[int]]]
    policy: BatchPolicy = LOW_LATENCY
    _queues: dict[bytes, deque[T]] = field(default_factory=dict)
    """Items by key; the queue of a key is also there, perhaps empty, while the key is in a batch."""
    _ready: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    """Keys that have items and are in no batch, in order of their turns."""
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _queued: int = 0

    async def put(self, key: bytes | None, item: T) -> None:
        """Queue an item behind all others with its key, once there is room."""
        while not self.put_now(key, item):
            self._room.clear()
            await self._room.wait()

    def put_now(self, key: bytes | None, item: T) -> bool:
        """Queue an item behind all others with its key; return False when there is no room."""
        if self._queued >= (self.policy.most or 2 * self.policy.lanes * self.policy.batch):
            return False
        self._queued += 1
        key = key or b""
        if key in self._queues:
            self._queues[key].append(item)
        else:
            self._queues[key] = deque((item,))
            self._ready.put_nowait(key)
        return True

    async def run(self) -> None:
        """Work for ever. Raises what ``work`` raises: then all lanes have stopped."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.policy.lanes):
                group.create_task(self._lane())

    async def _lane(self) -> None:
        while True:
            keys = [await self._ready.get()]
            batch = await self._fill(keys)
            left = await self.work([item for _, item in batch])
            self._give_back(keys, [batch[position] for position in sorted(left)])

    async def _fill(self, keys: list[bytes]) -> list[tuple[bytes, T]]:
        """Return a batch, and add its further keys. Faust hands out a fetch chunk by chunk, in a turn or two each."""
        batch: list[tuple[bytes, T]] = []
        empty = 0
        while len(batch) < self.policy.batch and empty < _EMPTY_TURNS:
            while len(keys) < self.policy.keys and not self._ready.empty():
                keys.append(self._ready.get_nowait())
            round_ = [key for key in keys if self._queues[key]][: self.policy.batch - len(batch)]
            batch += [(key, self._queues[key].popleft()) for key in round_]
            if round_:
                empty = 0
                self._queued -= len(round_)
                self._room.set()
            else:
                empty += 1
                await asyncio.sleep(0)
        return batch

    def _give_back(self, keys: Sequence[bytes], left: Sequence[tuple[bytes, T]]) -> None:
        """Let these keys have their next turn behind all others; what is left of the batch then comes first."""
        for key, item in reversed(left):
            self._queues[key].appendleft(item)
        self._queued += len(left)
        for key in keys:
            if self._queues[key]:
                self._ready.put_nowait(key)
            else:
                del self._queues[key]
