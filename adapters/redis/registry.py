"""Registry of connections: leases, so that the entries of a dead node end by themselves. Advisory only.

* ``user:{userId}:connected``       connection ids by the end of their lease (Unix milliseconds)
* ``connection:{connectionId}``     user, node, device, since, lease, and the life of the node
* ``gateways``, ``gateways:seen``   lives of nodes by the end of their lease, and by their last renewal
* ``node:{gatewayId}``              fields of its last life; gone with its lease
* ``node:{life}:connections``       connection id → user: cleared when that life has ended
* ``user:{userId}:seen``            when the user's last connection ended
* ``registry:{number}:whole``       a token of the node that found it missing; ``registry:{number}:fresh`` ends some
                                    seconds later. On a cluster the numbers are spread over the slots of all servers

A life is one run of a process, so a node that comes back under its name does not revive the connections of its life
before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import structlog

from adapters.redis.slot_client import Command, SlotClient, open_slot_client
from domain.presence import FRESH_S, Entry
from schemas.ids import new_id

_log = structlog.get_logger()

LIVES, _LAST = "gateways", "gateways:seen"
_CHUNK = 100
"""Connections in one pipeline: about 10 ms of this process."""
_AWAY = "away:"
"""Prefix in place of a connection id: a user whose connections have ended and who is not announced as offline yet."""
_CLEARING_MS = 10_000
_MARKS = 16
"""Marks of a registry that is whole: of up to six servers with equal shares of the slots, each has one or more."""
_KEPT_MS = 24 * 3600 * 1000
_SEEN_MS = 30 * _KEPT_MS
_MOST_KNOWN = 100_000


def now_ms() -> int:
    """Return Unix milliseconds. The clocks of the nodes must agree within a small part of a lease."""
    return time.time_ns() // 1_000_000


def user_key(client: SlotClient, user_id: str) -> str:
    """Return the key of the connections of a user."""
    return client.name(f"user:{user_id}:connected")


def connection_key(connection_id: str) -> str:
    """Return the key of a connection."""
    return f"connection:{connection_id}"


def node_key(node: str) -> str:
    """Return the key of a node; also the name of the channel on which it takes requests."""
    return f"node:{node}"


def held_key(client: SlotClient, life: str) -> str:
    """Return the key of the connections that a life of a node holds."""
    return client.name(f"node:{life}:connections")


def node_of(life: str) -> str:
    """Return the name of the node of this life."""
    return life.rpartition("/")[0]


@dataclass(slots=True)
class RedisRegistry:
    """Registry, as one node sees it. ``life`` names this run of the node."""

    client: SlotClient
    node: str
    lease_s: float
    life: str = ""
    _began_ms: int = field(default_factory=now_ms)
    _life_of: dict[bytes, bytes] = field(default_factory=dict)
    _renewed: bool = False
    _renewed_under: list[bytes | None] = field(default_factory=list)
    _took_over: bool = False

    def __post_init__(self) -> None:
        self.life = self.life or f"{self.node}/{new_id()}"

    async def connected(self, user_ids: Sequence[str]) -> frozenset[str]:
        now = now_ms()
        lookups: list[Command] = [("ZRANGEBYSCORE", self._user(user), now, "+inf") for user in user_ids]
        alive, *held = await self.client.run([("ZRANGEBYSCORE", LIVES, now, "+inf"), *lookups])
        await self._learn({id_ for ids in held for id_ in ids})
        live, life_of = frozenset(alive), self._life_of.get
        return frozenset(
            user for user, ids in zip(user_ids, held, strict=True) if any(life_of(id_) in live for id_ in ids)
        )

    async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
        online = await self.connected(user_ids)
        marks = await self.client.run(
            [("EXISTS", key) for number in range(_MARKS) for key in (self._whole(number), self._fresh(number))]
        )
        # Read after the connections: what emptied the registry before that reading has removed a mark, too.
        is_whole = all(marks[0::2]) and not any(marks[1::2])
        return frozenset(user_ids) - online if is_whole else frozenset()

    async def forgets(self) -> bool:
        return bool(self._renewed_under) and await self._marks() != self._renewed_under

    async def _marks(self) -> list[bytes | None]:
        return await self.client.run([("GET", self._whole(number)) for number in range(_MARKS)])

    async def _mark(self, marks: list[bytes | None]) -> None:
        """Mark as fresh what had no mark before the renewal: the other nodes notice it, and renew what they hold."""
        fresh, token = ("PX", int(min(self.lease_s, FRESH_S) * 1000)), new_id()
        for number in (number for number in range(_MARKS) if marks[number] is None):
            await self.client.atomic([("SET", self._fresh(number), 1, *fresh), ("SET", self._whole(number), token)])
        self._renewed_under = [token.encode() if mark is None else mark for mark in marks]

    def _whole(self, number: int) -> str:
        return self.client.name(f"registry:{number}:whole")

    def _fresh(self, number: int) -> str:
        return self.client.name(f"registry:{number}:fresh")

    async def _learn(self, ids: Collection[bytes]) -> None:
        """Read the lives in which these connections were made. They never change, so each is read once."""
        if len(self._life_of) > _MOST_KNOWN:
            self._life_of.clear()
        unknown = [id_ for id_ in ids if id_ not in self._life_of]
        lives = await self.client.run([("HGET", connection_key(id_.decode()), "life") for id_ in unknown])
        self._life_of.update((id_, life) for id_, life in zip(unknown, lives, strict=True) if life is not None)

    async def last_seen(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        times = await self.client.run([("GET", self._seen(user)) for user in user_ids])
        return {user: int(at) for user, at in zip(user_ids, times, strict=True) if at is not None}

    async def register(self, entry: Entry) -> bool:
        now, key = now_ms(), self._user(entry.user_id)
        notes = [*self._alive(now), *self._lease([entry], now)]
        clear: Command = ("ZREMRANGEBYSCORE", key, "-inf", now)
        count = await self._note_and_count(notes, [clear, *self._place(entry, now), ("ZCARD", key)])
        self._life_of[entry.connection_id.encode()] = self.life.encode()  # presence looks it up next
        return count == 1

    async def renew(self, entries: Iterable[Entry], *, draining: bool = False) -> bool:
        now, key, marks = now_ms(), node_key(self.node), await self._marks()
        lease = ("life", self.life, "since", self._began_ms, "draining", int(draining), "lease", self._ends(now))
        added, _, _, _, before, *_ = await self.client.run(
            [
                *self._alive(now),
                ("HGET", key, "life"),
                ("HSET", key, *lease),
                ("PEXPIREAT", key, self._ends(now)),
            ]
        )
        if self._renewed and before not in (None, self.life.encode()):
            _log.warning(
                "gateway_name_taken",
                gateway=self.node,
                reason="another gateway has this MILLRACE_NODE; give each its own",
            )
        self._renewed, source = True, iter(entries)
        while chunk := list(islice(source, _CHUNK)):
            now = now_ms()
            places = [command for entry in chunk for command in self._place(entry, now)]
            await self.client.run([*self._lease(chunk, now), *places])
        await self._mark(marks)
        return bool(added)

    async def unregister(self, connection_id: str, user_id: str, ended_ms: int) -> bool:
        key, now = self._user(user_id), now_ms()
        self._life_of.pop(connection_id.encode(), None)
        notes: list[Command] = [
            ("SET", self._seen(user_id), ended_ms, "PX", _SEEN_MS),
            ("DEL", connection_key(connection_id)),
            ("HDEL", held_key(self.client, self.life), connection_id),
        ]
        count: list[Command] = [("ZREM", key, connection_id), ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZCARD", key)]
        return await self._note_and_count(notes, count) == 0

    async def _note_and_count(self, notes: list[Command], count: list[Command]) -> int:
        """Run the notes, then the commands about one user as a transaction; return its last reply.

        One round trip does both where one server has all keys.
        """
        if self.client.is_alone:
            return int((await self.client.atomic([*notes, *count]))[-1])
        await self.client.run(notes)
        return int((await self.client.atomic(count))[-1])

    async def clear(self) -> Sequence[str]:
        lives, live = await self.client.run([("ZRANGE", LIVES, 0, -1), ("ZRANGEBYSCORE", LIVES, now_ms(), "+inf")])
        ended = {life.decode() for life in lives} - {life.decode() for life in live}
        if not self._took_over:  # only once: two nodes under one name must not clear each other for ever
            ended |= {life.decode() for life in lives if node_of(life.decode()) == self.node}
        away = [user for life in sorted(ended - {self.life}) for user in await self._clear(life)]
        self._took_over = True
        return away

    async def leave(self, away: Collection[str]) -> None:
        key, node = held_key(self.client, self.life), node_key(self.node)
        pairs = [word for number, user in enumerate(away) for word in (f"{_AWAY}{number}", user)]
        if pairs:
            await self.client.run([("HSET", key, *pairs), ("PEXPIRE", key, _KEPT_MS)])
        left, last_life, _ = await self.client.run(
            [("HLEN", key), ("HGET", node, "life"), ("ZADD", LIVES, 0, self.life)]
        )
        tail: list[Command] = [] if left else [("ZREM", LIVES, self.life), ("ZREM", _LAST, self.life)]
        await self.client.run([*tail, *([("DEL", node)] if last_life == self.life.encode() else [])])

    async def _clear(self, life: str) -> Sequence[str]:
        """Delete all that this life held; return its users who have no connection now.

        The life itself is deleted last, so a clearing that was cut off begins again.
        """
        key = held_key(self.client, life)
        [claimed] = await self.client.run([("SET", f"{key}:clearing", self.life, "NX", "PX", _CLEARING_MS)])
        if not claimed:
            return []
        held, last, last_life = await self.client.run(
            [("HGETALL", key), ("ZSCORE", _LAST, life), ("HGET", node_key(node_of(life)), "life")]
        )
        seen = int(float(last or 0))  # nothing later than the last renewal is known of its users
        away: list[str] = []
        source = iter(held.items())
        while chunk := list(islice(source, _CHUNK)):
            away += await self._forget({id_.decode(): user.decode() for id_, user in chunk}, seen)
        tail: list[Command] = [("DEL", node_key(node_of(life)))] if last_life == life.encode() else []
        await self.client.run([("DEL", key), ("ZREM", LIVES, life), ("ZREM", _LAST, life), *tail])
        _log.debug("registry_cleared", gateway=node_of(life), connections=len(held), users_away=len(away))
        return away

    async def _forget(self, held: Mapping[str, str], seen: int) -> Sequence[str]:
        await self.client.run(
            [command for id_, user in held.items() for command in self._gone(id_, user)],
        )
        users = sorted(set(held.values()))
        known, online = await self.last_seen(users), await self.connected(users)
        cut = {user for id_, user in held.items() if not id_.startswith(_AWAY)}  # the end of the others was noted
        later = [user for user in sorted(cut) if known.get(user, 0) < seen]
        await self.client.run([("SET", self._seen(user), seen, "PX", _SEEN_MS) for user in later])
        return [user for user in users if user not in online]

    def _gone(self, connection_id: str, user_id: str) -> list[Command]:
        return [("ZREM", self._user(user_id), connection_id), ("DEL", connection_key(connection_id))]

    def _ends(self, now: int) -> int:
        return now + int(self.lease_s * 1000)

    def _alive(self, now: int) -> list[Command]:
        """Return the commands that renew the lease of this life; the first replies 1 when there was none.

        The lists of lives outlast them for as long as what they held.
        """
        return [
            ("ZADD", LIVES, self._ends(now), self.life),
            ("ZADD", _LAST, now, self.life),
            ("PEXPIRE", LIVES, _KEPT_MS),
            ("PEXPIRE", _LAST, _KEPT_MS),
        ]

    def _user(self, user_id: str) -> str:
        return user_key(self.client, user_id)

    def _seen(self, user_id: str) -> str:
        return self.client.name(f"user:{user_id}:seen")

    def _place(self, entry: Entry, now: int) -> list[Command]:
        """Return the commands that put the connection among those of its user."""
        key, ends = self._user(entry.user_id), self._ends(now)
        return [("ZADD", key, ends, entry.connection_id), ("PEXPIREAT", key, ends)]

    def _lease(self, entries: Sequence[Entry], now: int) -> list[Command]:
        """Return the commands that describe the connections, and note that this life holds them."""
        ends, held = self._ends(now), held_key(self.client, self.life)
        pairs = [word for entry in entries for word in (entry.connection_id, entry.user_id)]
        commands: list[Command] = [("HSET", held, *pairs), ("PEXPIRE", held, _KEPT_MS)]
        for entry in entries:
            key = connection_key(entry.connection_id)
            about = ("user", entry.user_id, "node", self.node, "device", entry.device, "since", entry.since_ms)
            commands += [("HSET", key, *about, "lease", ends, "life", self.life), ("PEXPIREAT", key, ends)]
        return commands


@asynccontextmanager
async def open_registry(url: str, *, node: str, lease_s: float) -> AsyncIterator[RedisRegistry]:
    """Yield the registry, as one node sees it; Redis may come later."""
    async with open_slot_client(url) as client:
        yield RedisRegistry(client, node, lease_s)
