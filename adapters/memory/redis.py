"""Twins of Redis: pub/sub that can lose messages, and a registry."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.presence import FRESH_S, TYPING_S, Entry, published_change, wait_s
from domain.pubsub import Hint
from schemas.ids import new_id


@dataclass(slots=True)
class MemoryBus:
    """Fanout to all subscriptions made with it. Set ``losing`` to lose all messages, ``down`` to make it unavailable.

    ``slow_s``: seconds that subscribing and unsubscribing take.
    """

    nodes: list[MemorySubscriptions] = field(default_factory=list)
    losing: bool = False
    down: bool = False
    slow_s: float = 0.0

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if self.down:
            raise Unavailable("Redis does not answer")
        for channel, data in messages if not self.losing else ():
            for node in self.nodes:
                if channel in node.channels:
                    node.queue.put_nowait(Hint(channel, data))

    def subscriptions(self, home: str = "") -> MemorySubscriptions:
        """Return the subscriptions of one more node, which always has its home channel."""
        node = MemorySubscriptions(self, {home})
        self.nodes.append(node)
        return node


@dataclass(slots=True)
class MemorySubscriptions:
    """PubSub of one node."""

    bus: MemoryBus
    channels: set[str] = field(default_factory=set)
    queue: asyncio.Queue[Hint] = field(default_factory=asyncio.Queue)

    async def subscribe(self, *channels: str) -> None:
        if self.bus.down:
            raise Unavailable("Redis did not confirm the subscription")
        self.channels.update(channels)
        await asyncio.sleep(self.bus.slow_s)

    async def unsubscribe(self, channel: str) -> None:
        self.channels.discard(channel)
        await asyncio.sleep(self.bus.slow_s)

    async def hints(self) -> AsyncIterator[Sequence[Hint]]:
        while True:
            hints = [await self.queue.get()]
            while not self.queue.empty():
                hints.append(self.queue.get_nowait())
            yield hints


@dataclass(slots=True)
class MemoryPlaces:
    """State that all registries of one Redis share. ``now`` in Unix seconds; ``held``: life → connection → user.

    ``lives``: life → end of its lease; ``last``: life → last renewal; ``seen``: user → end of the last connection (ms).
    """

    now: Callable[[], float] = time.time
    lives: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    held: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    seen: dict[str, int] = field(default_factory=dict)
    whole_at: float | None = 0.0
    """Time at which the registry became, or will be, whole; None until a node has renewed its lease."""
    down: bool = False

    def answer(self) -> None:
        """Raise Unavailable while it is down."""
        if self.down:
            raise Unavailable("Redis does not answer")

    def flush(self) -> None:
        """Lose everything."""
        for each in (self.lives, self.last, self.held, self.seen):
            each.clear()
        self.whole_at = None

    def alive(self) -> list[str]:
        """Return the lives whose lease has not ended."""
        return [life for life, ends in self.lives.items() if ends > self.now()]

    def count(self, user_id: str, lives: Iterable[str]) -> int:
        """Return the number of connections that a user has in these lives."""
        return sum(list(self.held[life].values()).count(user_id) for life in lives)


@dataclass(slots=True)
class MemoryRegistry:
    """Registry of one node. The lease of a connection is that of its node."""

    places: MemoryPlaces = field(default_factory=MemoryPlaces)
    node: str = "n1"
    lease_s: float = 30.0
    life: str = ""
    _took_over: bool = False
    _renewed_under: float | None = 0.0

    def __post_init__(self) -> None:
        self.life = self.life or f"{self.node}/{new_id()}"

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        self.places.answer()
        alive = self.places.alive()
        return frozenset(user for user in user_ids if self.places.count(user, alive))

    async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
        online, whole_at = await self.connected(user_ids), self.places.whole_at
        is_whole = whole_at is not None and whole_at <= self.places.now()
        return frozenset(user_ids) - online if is_whole else frozenset()

    async def last_seen(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        self.places.answer()
        return {user: self.places.seen[user] for user in user_ids if user in self.places.seen}

    async def register(self, entry: Entry) -> bool:
        self.places.answer()
        self.put(entry.connection_id, entry.user_id)
        return self.places.count(entry.user_id, list(self.places.held)) == 1

    def _alive(self) -> None:
        self.places.last[self.life] = self.places.now()
        self.places.lives[self.life] = self.places.now() + self.lease_s

    def put(self, connection_id: str, user_id: str) -> None:
        """Note a connection of this node."""
        self._alive()
        self.places.held[self.life][connection_id] = user_id

    async def renew(self, entries: Iterable[Entry], *, draining: bool = False) -> bool:
        self.places.answer()
        known = self.life in self.places.lives
        self._alive()
        for entry in entries:
            self.put(entry.connection_id, entry.user_id)
        if self.places.whole_at is None:
            self.places.whole_at = self.places.now() + min(self.lease_s, FRESH_S)
        self._renewed_under = self.places.whole_at
        return not known

    async def forgets(self) -> bool:
        self.places.answer()
        return self._renewed_under != self.places.whole_at

    async def unregister(self, connection_id: str, user_id: str, ended_ms: int) -> bool:
        self.places.answer()
        self.places.held[self.life].pop(connection_id, None)
        self.places.seen[user_id] = ended_ms
        return not self.places.count(user_id, list(self.places.held))

    async def clear(self) -> Sequence[str]:
        self.places.answer()
        ended = self.places.lives.keys() - set(self.places.alive())
        if not self._took_over:
            ended |= {life for life in self.places.lives if life.startswith(f"{self.node}/")}
        self._took_over = True
        return [user for life in sorted(ended - {self.life}) for user in self._clear(life)]

    async def leave(self, away: Collection[str]) -> None:
        self.places.answer()
        self.places.lives[self.life] = 0.0
        self.places.held[self.life].update({f"away:{number}": user for number, user in enumerate(away)})
        if not self.places.held[self.life]:
            self._clear(self.life)

    def _clear(self, life: str) -> list[str]:
        del self.places.lives[life]
        seen = int(self.places.last.pop(life, 0) * 1000)
        held = self.places.held.pop(life, {})
        users = sorted(set(held.values()))
        for user in {user for id_, user in held.items() if not id_.startswith("away:")}:
            self.places.seen[user] = max(seen, self.places.seen.get(user, 0))
        return [user for user in users if not self.places.count(user, self.places.alive())]


@dataclass(slots=True)
class MemoryEphemeralThrottle:
    """EphemeralThrottle of one node; nodes share ``typing`` and ``published``."""

    node: str = "n1"
    typing: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        if self._typing_node(conversation_id, user_id) is not None:
            return False
        self.typing[conversation_id, user_id] = (self.node, time.monotonic() + TYPING_S)
        return True

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        return self._typing_node(conversation_id, user_id) not in (None, self.node)

    def _typing_node(self, conversation_id: str, user_id: str) -> str | None:
        node, until = self.typing.get((conversation_id, user_id), (None, 0.0))
        return node if time.monotonic() < until else None

    async def may_tell(self, user_id: str, online: bool) -> float:
        now = time.time_ns() // 1_000_000
        wait = wait_s(self.published.get(user_id, ""), online, now)
        if wait == 0:
            self.published[user_id] = published_change(online, now)
        return wait


@dataclass(slots=True)
class MemoryAnswers:
    """Answers to operators by request."""

    given: dict[str, bytes] = field(default_factory=dict)

    async def answer(self, reply: str, data: bytes) -> None:
        self.given[reply] = data
