"""Faults that Redis makes when it is told to: it forgets everything, or hangs up on subscribers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from domain.errors import Unavailable
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Target


@dataclass(slots=True, kw_only=True)
class FlushRedis(Fault):
    """Empties Redis."""

    targets: tuple[str, ...] = ("valkey",)

    def __post_init__(self) -> None:
        self.name = "flush-redis"
        self.summary = "empties Redis, on all nodes"

    async def inject(self, target: Target) -> None:
        held = sum(await _command(target, "DBSIZE"))
        await _command(target, "FLUSHALL")
        if held:
            self.evidence = f"{held} keys gone"


@dataclass(slots=True, kw_only=True)
class CutSubscribers(Fault):
    """Cuts all subscribers of Redis off, again and again; ``at_end``, while the last messages are on their way."""

    targets: tuple[str, ...] = ("valkey",)
    lasts_s: float = 5.0
    every_s: float = 0.5
    _cutting: asyncio.Task[None] | None = field(default=None)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: int = 0

    def __post_init__(self) -> None:
        self.name = f"cut-subscribers{'-at-end' if self.at_end else ''}"
        self.summary = f"cuts all subscribers of Redis off, again and again for {self.lasts_s:.0f} s"
        if self.at_end:
            self.summary += ", while the last messages are sent"

    async def inject(self, target: Target) -> None:
        await self._cut_all(target)
        self._cutting = asyncio.create_task(self._go_on(target))

    async def _go_on(self, target: Target) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await self._over.wait()
            with suppress(NotPossible):
                await self._cut_all(target)

    async def _cut_all(self, target: Target) -> None:
        self._cut += sum(await _command(target, "CLIENT", "KILL", "TYPE", "pubsub"))
        if self._cut:
            self.evidence = f"{self._cut} subscribers cut off"

    async def heal(self, target: Target) -> None:
        self._over.set()  # not cancelled: in a client's time-out that may be swallowed, and the cutting go on for ever
        if self._cutting is not None:
            await self._cutting
            self._cutting = None


async def _command(target: Target, *words: str) -> list[int]:
    """Send a command to every Redis node; return the numbers with which they answer, 0 for other answers.

    Raises NotPossible when one does not answer.
    """
    from adapters.redis.client import connect, execute, unavailable_on_outage
    from adapters.redis.target import target as servers_of

    to, answers = servers_of(target.redis_url), []
    for address in to.nodes:
        redis = connect(to, address)
        try:
            with unavailable_on_outage():
                answer = await execute(redis, *words)
                answers.append(answer if type(answer) is int else 0)
        except Unavailable as exc:
            raise NotPossible(str(exc)) from exc
        finally:
            await redis.aclose()
    return answers
