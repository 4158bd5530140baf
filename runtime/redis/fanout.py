"""Pub/sub: at most once, and it loses silently. So a connection that was made anew is told of as a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from runtime.errors import Unavailable
from runtime.ports import Hint
from runtime.redis.client import connect, unavailable_on_outage

_log = structlog.get_logger()

CONFIRM_S = 2.0
_READ_S = 1.0
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_OUTAGES = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class RedisFanout:
    """A Fanout: one pipeline for all that is given."""

    redis: Redis

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if not messages:
            return
        with unavailable_on_outage():
            pipeline = self.redis.pipeline(transaction=False)
            for channel, data in messages:
                pipeline.publish(channel, data)
            await pipeline.execute()


@dataclass(slots=True)
class RedisSubscriptions:
    """Subscriptions of one node. ``home`` is a channel of its own, which keeps the connection in use."""

    redis: Redis
    home: str
    _wanted: set[str] = field(default_factory=set)
    _confirmed: set[str] = field(default_factory=set)
    _waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _pubsub: PubSub | None = None

    async def subscribe(self, channel: str) -> None:
        """Return once it is confirmed. Raises Unavailable; it is subscribed all the same when Redis is back."""
        self._wanted.add(channel)
        if channel in self._confirmed:
            return
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = asyncio.get_running_loop().create_future()
            if self._pubsub is not None:
                with unavailable_on_outage():
                    await self._pubsub.subscribe(channel)
        done, _ = await asyncio.wait({waiting}, timeout=CONFIRM_S)
        if not done:
            raise Unavailable("Redis did not confirm the subscription")

    async def unsubscribe(self, channel: str) -> None:
        self._wanted.discard(channel)
        self._confirmed.discard(channel)
        if self._pubsub is not None:
            with suppress(*_OUTAGES):
                await self._pubsub.unsubscribe(channel)

    async def hints(self) -> AsyncIterator[Hint]:
        """For ever. Every connection after the first begins with a gap."""
        again, failures = False, 0
        while True:
            try:
                async for hint in self._connection(again):
                    again, failures = True, 0
                    yield hint
            except _OUTAGES as exc:
                _log.warning("redis subscription lost", error=type(exc).__name__)
            self._pubsub = None
            self._confirmed.clear()
            again = True
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _connection(self, again: bool) -> AsyncIterator[Hint]:
        pubsub = self.redis.pubsub()
        try:
            asked = {self.home, *self._wanted}
            await pubsub.subscribe(*asked)
            self._pubsub = pubsub
            if late := self._wanted - asked:  # wanted while the connection was being made
                await pubsub.subscribe(*late)
            if again:
                yield Hint("", b"", gap=True)
            while True:
                said = await pubsub.get_message(ignore_subscribe_messages=False, timeout=_READ_S)
                if said is None:
                    continue
                hint = self._hint(said["type"], said["channel"].decode(), said["data"])
                if hint is not None:
                    yield hint
        finally:
            with suppress(*_OUTAGES):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _hint(self, kind: str, channel: str, data: bytes) -> Hint | None:
        if kind == "message":
            return Hint(channel, data)
        if kind != "subscribe":
            return None
        repeated = channel in self._confirmed
        if channel in self._wanted:
            self._confirmed.add(channel)
        waiting = self._waiting.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        return Hint(channel, b"", gap=True) if repeated else None


@asynccontextmanager
async def open_fanout(url: str) -> AsyncIterator[RedisFanout]:
    """A fan-out; Redis may come later."""
    redis = connect(url)
    try:
        yield RedisFanout(redis)
    finally:
        await redis.aclose()


@asynccontextmanager
async def open_subscriptions(url: str, node: str) -> AsyncIterator[RedisSubscriptions]:
    """The subscriptions of a node; they work while somebody iterates over ``hints()``."""
    redis = connect(url)
    try:
        yield RedisSubscriptions(redis, f"node:{node}")
    finally:
        await redis.aclose()
