"""Who is connected: leases, so that what a dead node leaves behind ends by itself. Advisory only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from runtime.redis.client import connect, unavailable_on_outage

_TYPING_MS = 3000


@dataclass(frozen=True, slots=True)
class RedisRegistry:
    """A Registry. ``user:{id}:connected`` holds connection ids by the end of their lease (Unix milliseconds)."""

    redis: Redis
    node: str
    lease_s: int

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        if not user_ids:
            return frozenset()
        now = _now_ms()
        with unavailable_on_outage():
            pipeline = self.redis.pipeline(transaction=False)
            for user_id in user_ids:
                pipeline.zcount(_user(user_id), now, "+inf")
            counts = await pipeline.execute()
        return frozenset(user for user, count in zip(user_ids, counts, strict=True) if count)

    async def register(self, connection_id: str, user_id: str) -> bool:
        now = _now_ms()
        with unavailable_on_outage():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.zremrangebyscore(_user(user_id), "-inf", now)
            self._lease(pipeline, connection_id, user_id, now)
            pipeline.zcard(_user(user_id))
            answers = await pipeline.execute()
        return bool(answers[-1] == 1)

    async def renew(self, connections: Mapping[str, str]) -> None:
        now = _now_ms()
        with unavailable_on_outage():
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.set(f"node:{self.node}", now, px=self.lease_s * 1000)
            for connection_id, user_id in connections.items():
                self._lease(pipeline, connection_id, user_id, now)
            await pipeline.execute()

    async def unregister(self, connection_id: str, user_id: str) -> bool:
        with unavailable_on_outage():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.zrem(_user(user_id), connection_id)
            pipeline.zremrangebyscore(_user(user_id), "-inf", _now_ms())
            pipeline.delete(_connection(connection_id))
            pipeline.zcard(_user(user_id))
            answers = await pipeline.execute()
        return bool(answers[-1] == 0)

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Whether no node has told of this user's typing here for 3 s; if so, that starts now. Raises Unavailable."""
        key = f"conversation:{conversation_id}:typing:{user_id}"
        with unavailable_on_outage():
            return bool(await self.redis.set(key, 1, nx=True, px=_TYPING_MS))

    async def stopped_typing(self, conversation_id: str, user_id: str) -> None:
        """The next sign may be told at once. Raises Unavailable."""
        with unavailable_on_outage():
            await self.redis.delete(f"conversation:{conversation_id}:typing:{user_id}")

    def _lease(self, pipeline: Redis, connection_id: str, user_id: str, now: int) -> None:
        ends = now + self.lease_s * 1000
        pipeline.zadd(_user(user_id), {connection_id: ends})
        pipeline.pexpireat(_user(user_id), ends)
        key = _connection(connection_id)
        pipeline.hset(key, mapping={"user": user_id, "node": self.node, "lease": ends})
        pipeline.hsetnx(key, "since", str(now))
        pipeline.pexpireat(key, ends)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _user(user_id: str) -> str:
    return f"user:{user_id}:connected"


def _connection(connection_id: str) -> str:
    return f"connection:{connection_id}"


@asynccontextmanager
async def open_registry(url: str, *, node: str, lease_s: int) -> AsyncIterator[RedisRegistry]:
    """A registry; Redis may come later."""
    redis = connect(url)
    try:
        yield RedisRegistry(redis, node, lease_s)
    finally:
        await redis.aclose()
