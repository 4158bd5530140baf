"""Publisher to Redis channels: at most once, with silent loss. On a cluster the channels are sharded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.redis.slot_client import SlotClient, open_slot_client


@dataclass(frozen=True, slots=True)
class RedisFanout:
    """Fanout with one pipeline for each server."""

    client: SlotClient

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if messages:
            verb = "SPUBLISH" if self.client.is_cluster else "PUBLISH"
            await self.client.run([(verb, self.client.name(channel), data) for channel, data in messages])


@asynccontextmanager
async def open_fanout(url: str) -> AsyncIterator[RedisFanout]:
    """Yield a fan-out; Redis may come later."""
    async with open_slot_client(url) as client:
        yield RedisFanout(client)
