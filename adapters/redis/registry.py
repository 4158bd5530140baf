"""Who is connected: leases, so that what a dead node leaves behind ends by itself. Advisory only.

* ``user:{userId}:connected``       connection ids by the end of their lease (Unix milliseconds)
* ``connection:{connectionId}``     user, node, device, since, lease, and the life of the node
* ``gateways``, ``gateways:seen``   lives of nodes by the end of their lease, and by their last renewal
* ``node:{gatewayId}``              what its last life says of itself; gone with its lease
* ``node:{life}:connections``       connection id → user: what is to be cleared when that life has ended
* ``user:{userId}:seen``            when the user's last connection ended

A life is one run of a process, so a node that comes back under its name does not revive what was its own before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import structlog

from adapters.redis.slot_client import Command, Servers, open_servers
from domain.presence import Entry
from schemas.ids import new_id

_log = structlog.get_logger()

LIVES, _LAST = "gateways", "gateways:seen"
_CHUNK = 100
"""Connections in one pipeline: about 10 ms of this process."""
_AWAY = "away:"
"""In place of a connection id: a user whose connections have ended, and whom others are still to be told of."""
_CLEARING_MS = 10_000
_KEPT_MS = 24 * 3600 * 1000
_SEEN_MS = 30 * _KEPT_MS
_MOST_KNOWN = 100_000


def now_ms() -> int:
    """Unix milliseconds. The clocks of the nodes must agree within a small part of a lease."""
    return time.time_ns() // 1_000_000


def user_key(servers: Servers, user_id: str) -> str:
    """The connections of a user."""
    return servers.name(f"user:{user_id}:connected")


def connection_key(connection_id: str) -> str:
    """A connection."""
    return f"connection:{connection_id}"


def node_key(node: str) -> str:
    """A node; also the name of the channel on which it is asked."""
    return f"node:{node}"


def held_key(servers: Servers, life: str) -> str:
    """The connections that a life of a node holds."""
    return servers.name(f"node:{life}:connections")


def node_of(life: str) -> str:
    """The name of the node that lives, or lived, this life."""
    return life.rpartition("/")[0]


@dataclass(slots=True)
class RedisRegistry:
    """A Registry. ``life`` names this run of the node."""

    servers: Servers
    node: str
    lease_s: float
    life: str = ""
    _began_ms: int = field(default_factory=now_ms)
    _life_of: dict[bytes, bytes] = field(default_factory=dict)
    _renewed: bool = False
    _took_over: bool = False

    def __post_init__(self) -> None:
        self.life = self.life or f"{self.node}/{new_id()}"

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        now = now_ms()
        asked: list[Command] = [("ZRANGEBYSCORE", self._user(user), now, "+inf") for user in user_ids]
        alive, *held = await self.servers.run([("ZRANGEBYSCORE", LIVES, now, "+inf"), *asked])
        await self._learn({id_ for ids in held for id_ in ids})
        live, life_of = frozenset(alive), self._life_of.get
        return frozenset(
            user for user, ids in zip(user_ids, held, strict=True) if any(life_of(id_) in live for id_ in ids)
        )

    async def _learn(self, ids: Collection[bytes]) -> None:
        """The lives in which these connections were made. They never change, so each is asked for once."""
        if len(self._life_of) > _MOST_KNOWN:
            self._life_of.clear()
        unknown = [id_ for id_ in ids if id_ not in self._life_of]
        lives = await self.servers.run([("HGET", connection_key(id_.decode()), "life") for id_ in unknown])
        self._life_of.update((id_, life) for id_, life in zip(unknown, lives, strict=True) if life is not None)

    async def last_seen(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        times = await self.servers.run([("GET", self._seen(user)) for user in user_ids])
        return {user: int(at) for user, at in zip(user_ids, times, strict=True) if at is not None}

    async def register(self, entry: Entry) -> bool:
        now, key = now_ms(), self._user(entry.user_id)
        await self.servers.run([*self._alive(now), *self._lease([entry], now)])
        clear: Command = ("ZREMRANGEBYSCORE", key, "-inf", now)
        answers = await self.servers.atomic([clear, *self._place(entry, now), ("ZCARD", key)])
        return bool(answers[-1] == 1)

    async def renew(self, entries: Iterable[Entry], *, draining: bool = False) -> bool:
        now, key = now_ms(), node_key(self.node)
        said = ("life", self.life, "since", self._began_ms, "draining", int(draining), "lease", self._ends(now))
        added, _, before, *_ = await self.servers.run(
            [
                *self._alive(now),
                ("HGET", key, "life"),
                ("HSET", key, *said),
                ("PEXPIREAT", key, self._ends(now)),
            ]
        )
        if self._renewed and before not in (None, self.life.encode()):
            _log.warning("another gateway has the same name; give each a MILLRACE_NODE of its own")
        self._renewed, source = True, iter(entries)
        while chunk := list(islice(source, _CHUNK)):
            now = now_ms()
            places = [command for entry in chunk for command in self._place(entry, now)]
            await self.servers.run([*self._lease(chunk, now), *places])
        return bool(added)

    async def unregister(self, connection_id: str, user_id: str, ended_ms: int) -> bool:
        key, now = self._user(user_id), now_ms()
        await self.servers.run(
            [
                ("SET", self._seen(user_id), ended_ms, "PX", _SEEN_MS),
                ("DEL", connection_key(connection_id)),
                ("HDEL", held_key(self.servers, self.life), connection_id),
            ]
        )
        answers = await self.servers.atomic(
            [("ZREM", key, connection_id), ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZCARD", key)]
        )
        return bool(answers[-1] == 0)

    async def clear(self) -> Sequence[str]:
        lives, live = await self.servers.run([("ZRANGE", LIVES, 0, -1), ("ZRANGEBYSCORE", LIVES, now_ms(), "+inf")])
        ended = {life.decode() for life in lives} - {life.decode() for life in live}
        if not self._took_over:  # only once: two nodes under one name must not clear each other for ever
            ended |= {life.decode() for life in lives if node_of(life.decode()) == self.node}
        away = [user for life in sorted(ended - {self.life}) for user in await self._clear(life)]
        self._took_over = True
        return away

    async def leave(self, away: Collection[str]) -> None:
        key, node = held_key(self.servers, self.life), node_key(self.node)
        pairs = [word for number, user in enumerate(away) for word in (f"{_AWAY}{number}", user)]
        if pairs:
            await self.servers.run([("HSET", key, *pairs), ("PEXPIRE", key, _KEPT_MS)])
        left, said, _ = await self.servers.run([("HLEN", key), ("HGET", node, "life"), ("ZADD", LIVES, 0, self.life)])
        tail: list[Command] = [] if left else [("ZREM", LIVES, self.life), ("ZREM", _LAST, self.life)]
        await self.servers.run([*tail, *([("DEL", node)] if said == self.life.encode() else [])])

    async def _clear(self, life: str) -> Sequence[str]:
        """Forget all that this life held; users that have no connection now. Begun anew when it was not ended."""
        key = held_key(self.servers, life)
        [claimed] = await self.servers.run([("SET", f"{key}:clearing", self.life, "NX", "PX", _CLEARING_MS)])
        if not claimed:
            return []
        held, last, said = await self.servers.run(
            [("HGETALL", key), ("ZSCORE", _LAST, life), ("HGET", node_key(node_of(life)), "life")]
        )
        seen = int(float(last or 0))  # the last renewal is the last time that anybody has seen them
        away: list[str] = []
        source = iter(held.items())
        while chunk := list(islice(source, _CHUNK)):
            away += await self._forget({id_.decode(): user.decode() for id_, user in chunk}, seen)
        tail: list[Command] = [("DEL", node_key(node_of(life)))] if said == life.encode() else []
        await self.servers.run([("DEL", key), ("ZREM", LIVES, life), ("ZREM", _LAST, life), *tail])
        return away

    async def _forget(self, held: Mapping[str, str], seen: int) -> Sequence[str]:
        await self.servers.run(
            [command for id_, user in held.items() for command in self._gone(id_, user)],
        )
        users = sorted(set(held.values()))
        known, online = await self.last_seen(users), await self.connected(users)
        cut = {user for id_, user in held.items() if not id_.startswith(_AWAY)}  # of the others the end was noted
        later = [user for user in sorted(cut) if known.get(user, 0) < seen]
        await self.servers.run([("SET", self._seen(user), seen, "PX", _SEEN_MS) for user in later])
        return [user for user in users if user not in online]

    def _gone(self, connection_id: str, user_id: str) -> list[Command]:
        return [("ZREM", self._user(user_id), connection_id), ("DEL", connection_key(connection_id))]

    def _ends(self, now: int) -> int:
        return now + int(self.lease_s * 1000)

    def _alive(self, now: int) -> list[Command]:
        """The lease of this life; the first of them says whether it was there."""
        return [("ZADD", LIVES, self._ends(now), self.life), ("ZADD", _LAST, now, self.life)]

    def _user(self, user_id: str) -> str:
        return user_key(self.servers, user_id)

    def _seen(self, user_id: str) -> str:
        return self.servers.name(f"user:{user_id}:seen")

    def _place(self, entry: Entry, now: int) -> list[Command]:
        """The connection among those of its user."""
        key, ends = self._user(entry.user_id), self._ends(now)
        return [("ZADD", key, ends, entry.connection_id), ("PEXPIREAT", key, ends)]

    def _lease(self, entries: Sequence[Entry], now: int) -> list[Command]:
        """What is known of the connections themselves, and that this life holds them."""
        ends, held = self._ends(now), held_key(self.servers, self.life)
        pairs = [word for entry in entries for word in (entry.connection_id, entry.user_id)]
        commands: list[Command] = [("HSET", held, *pairs), ("PEXPIRE", held, _KEPT_MS)]
        for entry in entries:
            key = connection_key(entry.connection_id)
            about = ("user", entry.user_id, "node", self.node, "device", entry.device, "since", entry.since_ms)
            commands += [("HSET", key, *about, "lease", ends, "life", self.life), ("PEXPIREAT", key, ends)]
        return commands


@asynccontextmanager
async def open_registry(url: str, *, node: str, lease_s: float) -> AsyncIterator[RedisRegistry]:
    """The registry, as seen from one node; Redis may come later."""
    async with open_servers(url) as servers:
        yield RedisRegistry(servers, node, lease_s)
