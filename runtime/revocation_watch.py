"""Keeps the revoked tokens of a process current."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.pubsub import PubSub
from domain.revocations import CHANNEL, Revocation, Revocations, RevokedTokens

_log = structlog.get_logger()

_RETRY_S = 1.0


Enforce = Callable[[Revocation], Awaitable[None]]


async def _nothing_lives(_: Revocation) -> None:
    """For a process without connections that outlive a request."""


@dataclass(slots=True)
class Watch:
    """Keeps ``revoked`` current, and lets ``enforce`` end what lives by a token that was revoked."""

    store: Revocations
    revoked: RevokedTokens
    every_s: float
    enforce: Enforce = _nothing_lives
    _mark: float | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        """There may be new ones."""
        self._told.set()

    async def read(self) -> None:
        """Take in what is new. Raises Unavailable."""
        found, self._mark = await self.store.since(self._mark)
        fresh = [each for each in found if self.revoked.add(each)]
        self.revoked.forget(time.time())
        for each in fresh:
            _log.info("revocation in force", number=each.number)
            with suppress(Unavailable):
                await self.enforce(each)

    async def run(self) -> None:
        """For ever."""
        wait = self.every_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._told.wait()
            self._told.clear()
            try:
                await self.read()
                wait = self.every_s
            except Unavailable:
                wait = min(_RETRY_S, self.every_s)

    async def follow(self, pubsub: PubSub) -> None:
        """Look whenever the channel says so, for ever: for a process that subscribes to nothing else."""
        subscribing = asyncio.create_task(subscribe(pubsub))
        try:
            async for _ in pubsub.hints():
                self.look()
        finally:
            subscribing.cancel()


async def subscribe(pubsub: PubSub) -> None:
    """To the channel. Without Redis it is done once that is back."""
    with suppress(Unavailable):
        await pubsub.subscribe(CHANNEL)
