"""Gateways and connections as operators see them, and asking a gateway for something."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from adapters.redis.registry import LIVES, connection_key, held_key, node_key, node_of, now_ms, user_key
from adapters.redis.slot_client import Servers
from domain.errors import NotFound, Unavailable
from schemas.ids import new_id

_POLL_S = 0.05
_ANSWER_MS = 60_000


class NoAnswer(Unavailable):
    """A node that was asked says nothing."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A node whose lease lives. Times are Unix milliseconds."""

    node: str
    life: str
    since_ms: int
    lease_ends_ms: int
    draining: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Held:
    """A connection whose lease lives, and that of the life of its node."""

    connection_id: str
    user_id: str
    node: str
    device: str
    since_ms: int
    lease_ends_ms: int


@dataclass(frozen=True, slots=True)
class RedisAnswers:
    """Where operators wait for answers."""

    servers: Servers

    async def answer(self, reply: str, data: bytes) -> None:
        """Leave it there for a minute. Raises Unavailable."""
        await self.servers.run([("RPUSH", reply, data), ("PEXPIRE", reply, _ANSWER_MS)])


async def gateways(servers: Servers) -> Sequence[Gateway]:
    """All whose lease lives, by name. Raises Unavailable."""
    lives = await _lives(servers)
    notes = await servers.run([("HGETALL", node_key(node_of(life))) for life in lives])
    counts = await servers.run([("HLEN", held_key(servers, life)) for life in lives])
    found = []
    for life, note, count in zip(lives, notes, counts, strict=True):
        said = _text(note)
        if said.get("life") == life:
            about = int(said["since"]), int(said["lease"]), said["draining"] == "1"
            found.append(Gateway(node_of(life), life, *about, count))
    return sorted(found, key=lambda one: one.node)


async def connections(servers: Servers, *, user: str | None = None, node: str | None = None) -> Sequence[Held]:
    """Those of a user, of a node, or all; oldest first. Raises Unavailable."""
    lives = await _lives(servers)
    if user is not None:
        [found] = await servers.run([("ZRANGEBYSCORE", user_key(servers, user), now_ms(), "+inf")])
        ids = list(found)
    else:
        wanted = [life for life in lives if node in (None, node_of(life))]
        ids = [
            id_ for held in await servers.run([("HKEYS", held_key(servers, life)) for life in wanted]) for id_ in held
        ]
    notes = await servers.run([("HGETALL", connection_key(id_.decode())) for id_ in ids])
    all_ = [_held(id_.decode(), note, lives) for id_, note in zip(ids, map(_text, notes), strict=True)]
    return sorted((one for one in all_ if one and node in (None, one.node)), key=lambda one: one.since_ms)


async def connection(servers: Servers, connection_id: str) -> Held:
    """One connection. Raises NotFound, Unavailable."""
    [note] = await servers.run([("HGETALL", connection_key(connection_id))])
    found = _held(connection_id, _text(note), await _lives(servers))
    if found is None:
        raise NotFound("no such connection, or it has ended")
    return found


async def ask(servers: Servers, node: str, asked: Mapping[str, Any], within_s: float = 5.0) -> Any:
    """Say something on a node's channel, with the key under which its answer is to be left, and wait for that.

    Raises NoAnswer when the node does not, Unavailable when Redis does not.
    """
    reply = f"reply:{new_id()}"
    [heard] = await servers.run([("PUBLISH", node_key(node), orjson.dumps({**asked, "reply": reply}))])
    if not heard:
        raise NoAnswer(f"{node} does not listen: is it up, and on this Redis?")
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        [answer] = await servers.run([("LPOP", reply)])
        if answer is not None:
            return orjson.loads(answer)
        await asyncio.sleep(_POLL_S)
    raise NoAnswer(f"{node} has not answered in {within_s:.0f} s; it may have ended just now")


async def _lives(servers: Servers) -> list[str]:
    [lives] = await servers.run([("ZRANGEBYSCORE", LIVES, now_ms(), "+inf")])
    return [life.decode() for life in lives]


def _text(note: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in note.items()}


def _held(id_: str, note: Mapping[str, str], lives: Sequence[str]) -> Held | None:
    if note.get("life") not in lives:
        return None
    return Held(id_, note["user"], note["node"], note["device"], int(note["since"]), int(note["lease"]))
