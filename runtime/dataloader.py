"""Many who ask at the same time, and one question for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_PAUSE_S = 0.005
"""Between two questions, while several ask at once."""


class Gathered(Generic[K, V]):
    """Asks at once when nothing is on its way; what is asked meanwhile is asked together, once that is answered.

    So it costs no time when it is quiet, and little of the server when thousands come: then each waits for some
    milliseconds more. An answer is never older than its question: whoever asks while another question is on its way
    gets the answer to the next.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], most: int = 500) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """The answer for this key. Raises what asking raised."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._work_off())
        return await asyncio.shield(future)

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                batch = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._most]}
                try:
                    answers = await self._ask(list(batch))
                except Exception as exc:  # whatever it is, each of those who asked is told
                    for future in batch.values():
                        future.set_exception(exc)
                        future.exception()  # it may be that nobody waits any more
                    continue
                for key, future in batch.items():
                    future.set_result(answers[key])
                if len(batch) > 1:
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._task = None
