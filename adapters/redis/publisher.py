"""Publishing: at most once, and it loses silently. On a cluster the channels are sharded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.redis.slot_client import Servers, open_servers


@dataclass(frozen=True, slots=True)
class RedisFanout:
    """A Fanout: one pipeline for each server concerned."""

    servers: Servers

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if messages:
            verb = "SPUBLISH" if self.servers.is_cluster else "PUBLISH"
            await self.servers.run([(verb, self.servers.name(channel), data) for channel, data in messages])


@asynccontextmanager
async def open_fanout(url: str) -> AsyncIterator[RedisFanout]:
    """A fan-out; Redis may come later."""
    async with open_servers(url) as servers:
        yield RedisFanout(servers)
