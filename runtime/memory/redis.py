"""The twins of Redis: pub/sub that can lose what it carries, and a registry."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.errors import Unavailable
from runtime.ports import Hint


@dataclass(slots=True)
class MemoryBus:
    """A Fanout to all subscriptions made with it. Set ``losing`` to lose everything, ``down`` to refuse."""

    nodes: list[MemorySubscriptions] = field(default_factory=list)
    losing: bool = False
    down: bool = False

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if self.down:
            raise Unavailable("Redis does not answer")
        for channel, data in messages if not self.losing else ():
            for node in self.nodes:
                if channel in node.channels:
                    node.queue.put_nowait(Hint(channel, data))

    def subscriptions(self) -> MemorySubscriptions:
        """Those of one more node."""
        node = MemorySubscriptions(self)
        self.nodes.append(node)
        return node


@dataclass(slots=True)
class MemorySubscriptions:
    """Subscriptions of one node."""

    bus: MemoryBus
    channels: set[str] = field(default_factory=set)
    queue: asyncio.Queue[Hint] = field(default_factory=asyncio.Queue)

    async def subscribe(self, channel: str) -> None:
        if self.bus.down:
            raise Unavailable("Redis did not confirm the subscription")
        self.channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self.channels.discard(channel)

    async def hints(self) -> AsyncIterator[Hint]:
        while True:
            yield await self.queue.get()


@dataclass(slots=True)
class MemoryRegistry:
    """A Registry whose leases do not end."""

    users: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    typing: set[tuple[str, str]] = field(default_factory=set)

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(user for user in user_ids if self.users.get(user))

    async def register(self, connection_id: str, user_id: str) -> bool:
        self.users[user_id].add(connection_id)
        return len(self.users[user_id]) == 1

    async def renew(self, connections: Mapping[str, str]) -> None:
        for connection_id, user_id in connections.items():
            self.users[user_id].add(connection_id)

    async def unregister(self, connection_id: str, user_id: str) -> bool:
        self.users[user_id].discard(connection_id)
        return not self.users[user_id]

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        if (conversation_id, user_id) in self.typing:
            return False
        self.typing.add((conversation_id, user_id))
        return True

    async def stopped_typing(self, conversation_id: str, user_id: str) -> None:
        self.typing.discard((conversation_id, user_id))
