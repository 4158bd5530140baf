"""Watch that keeps the revoked tokens of a process current."""

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
    """Do nothing: for a process without connections that outlive a request."""


@dataclass(slots=True)
class Watch:
    """Adds new revocations to ``revoked``, and calls ``enforce`` for each, to close the connections of its tokens."""

    store: Revocations
    revoked: RevokedTokens
    interval_s: float
    enforce: Enforce = _nothing_lives
    _mark: float | None = None
    _hinted: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        """Read the store soon: there may be new revocations."""
        self._hinted.set()

    async def read(self) -> None:
        """Read new revocations, and enforce them. Raises Unavailable."""
        revocations, self._mark = await self.store.since(self._mark)
        fresh = [each for each in revocations if self.revoked.add(each)]
        self.revoked.forget(time.time())
        for each in fresh:
            _log.info("revocation_applied", revocation=each.number, user_id=each.user_id)
            with suppress(Unavailable):
                await self.enforce(each)

    async def run(self) -> None:
        """Read the store after each hint, and at the interval without one, until cancelled."""
        wait = self.interval_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hinted.wait()
            self._hinted.clear()
            try:
                await self.read()
                wait = self.interval_s
            except Unavailable:
                wait = min(_RETRY_S, self.interval_s)

    async def follow(self, pubsub: PubSub) -> None:
        """Read the store at each message on the channel, until cancelled.

        For a process that subscribes to nothing else.
        """
        subscribing = asyncio.create_task(subscribe(pubsub))
        try:
            async for _ in pubsub.hints():
                self.look()
        finally:
            subscribing.cancel()


async def subscribe(pubsub: PubSub) -> None:
    """Subscribe to the channel; without Redis the adapter does it once Redis is back."""
    with suppress(Unavailable):
        await pubsub.subscribe(CHANNEL)
