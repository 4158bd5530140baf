"""Who is connected: leases, so that what a dead node leaves behind ends by itself. Advisory only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from runtime.redis.servers import Command, Servers, open_servers

_TYPING_MS = 3000


@dataclass(frozen=True, slots=True)
class RedisRegistry:
    """A Registry. ``user:{id}:connected`` holds connection ids by the end of their lease (Unix milliseconds)."""

    servers: Servers
    node: str
    lease_s: int

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        now = _now_ms()
        counts = await self.servers.run([("ZCOUNT", self._user(user), now, "+inf") for user in user_ids])
        return frozenset(user for user, count in zip(user_ids, counts, strict=True) if count)

    async def register(self, connection_id: str, user_id: str) -> bool:
        key, now = self._user(user_id), _now_ms()
        clear: Command = ("ZREMRANGEBYSCORE", key, "-inf", now)
        count: Command = ("ZCARD", key)
        answers = await self.servers.atomic([clear, *self._place(connection_id, user_id, now), count])
        await self.servers.run(self._lease(connection_id, user_id, now))
        return bool(answers[-1] == 1)

    async def renew(self, connections: Mapping[str, str]) -> None:
        now = _now_ms()
        commands: list[Command] = [("SET", f"node:{self.node}", now, "PX", self.lease_s * 1000)]
        for connection_id, user_id in connections.items():
            commands += self._place(connection_id, user_id, now)
            commands += self._lease(connection_id, user_id, now)
        await self.servers.run(commands)

    async def unregister(self, connection_id: str, user_id: str) -> bool:
        key = self._user(user_id)
        answers = await self.servers.atomic(
            [("ZREM", key, connection_id), ("ZREMRANGEBYSCORE", key, "-inf", _now_ms()), ("ZCARD", key)]
        )
        await self.servers.run([("DEL", _connection(connection_id))])
        return bool(answers[-1] == 0)

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        """Whether no node has told of this user's typing here for 3 s; if so, that starts now. Raises Unavailable."""
        [done] = await self.servers.run([("SET", _typing(conversation_id, user_id), 1, "NX", "PX", _TYPING_MS)])
        return bool(done)

    async def stopped_typing(self, conversation_id: str, user_id: str) -> None:
        """The next sign may be told at once. Raises Unavailable."""
        await self.servers.run([("DEL", _typing(conversation_id, user_id))])

    def _user(self, user_id: str) -> str:
        return self.servers.name(f"user:{user_id}:connected")

    def _place(self, connection_id: str, user_id: str, now: int) -> list[Command]:
        """The connection among those of its user."""
        ends = now + self.lease_s * 1000
        return [("ZADD", self._user(user_id), ends, connection_id), ("PEXPIREAT", self._user(user_id), ends)]

    def _lease(self, connection_id: str, user_id: str, now: int) -> list[Command]:
        """What is known of the connection itself."""
        key, ends = _connection(connection_id), now + self.lease_s * 1000
        return [
            ("HSET", key, "user", user_id, "node", self.node, "lease", ends),
            ("HSETNX", key, "since", now),
            ("PEXPIREAT", key, ends),
        ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _connection(connection_id: str) -> str:
    return f"connection:{connection_id}"


def _typing(conversation_id: str, user_id: str) -> str:
    return f"conversation:{conversation_id}:typing:{user_id}"


@asynccontextmanager
async def open_registry(url: str, *, node: str, lease_s: int) -> AsyncIterator[RedisRegistry]:
    """A registry; Redis may come later."""
    async with open_servers(url) as servers:
        yield RedisRegistry(servers, node, lease_s)
