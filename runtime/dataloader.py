"""Batches concurrent lookups into one query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_PAUSE_S = 0.005
"""Pause in seconds between two queries, while several callers ask at once."""


class DataLoader(Generic[K, V]):
    """Loads values by key: queries at once when no query is under way, and gathers further keys until it has ended.

    So a single lookup waits for nobody, and thousands at once cost few queries, for some milliseconds more each. A
    value is never older than its lookup: a key that comes while a query is under way is part of the next one.
    """

    def __init__(self, query: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], max_keys: int = 500) -> None:
        self._query = query
        self._max_keys = max_keys
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """Return the value of this key. Raises what the query raised; KeyError when it has no value for the key."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run_queries())
        return await asyncio.shield(future)

    async def _run_queries(self) -> None:
        try:
            while self._waiting:
                batch = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._max_keys]}
                try:
                    values = await self._query(list(batch))
                except Exception as exc:  # of whatever kind, each waiting caller gets it
                    for future in batch.values():
                        _fail(future, exc)
                    continue
                for key, future in batch.items():
                    if key in values:
                        future.set_result(values[key])
                    else:
                        _fail(future, KeyError(key))
                if len(batch) > 1:
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._task = None


def _fail(future: asyncio.Future[V], exc: Exception) -> None:
    future.set_exception(exc)
    future.exception()  # marks it as retrieved: its caller may have been cancelled
