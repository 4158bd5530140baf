"""Directory of gateways and connections for operators, and requests to a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from adapters.redis.registry import LIVES, connection_key, held_key, node_key, node_of, now_ms, user_key
from adapters.redis.slot_client import SlotClient
from domain.errors import NotFound, Unavailable
from schemas.ids import new_id

_POLL_S = 0.05
_ANSWER_MS = 60_000


class NoAnswer(Unavailable):
    """Gateway that did not answer a request."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Gateway whose lease is current. Times are Unix milliseconds."""

    node: str
    life: str
    since_ms: int
    lease_ends_ms: int
    draining: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Held:
    """Connection whose lease is current, as is the lease of its node's life. Times are Unix milliseconds."""

    connection_id: str
    user_id: str
    node: str
    device: str
    since_ms: int
    lease_ends_ms: int


@dataclass(frozen=True, slots=True)
class RedisAnswers:
    """Answers of a gateway to operators, in a list per request."""

    client: SlotClient

    async def answer(self, reply: str, data: bytes) -> None:
        """Leave an answer for a minute. Raises Unavailable."""
        await self.client.run([("RPUSH", reply, data), ("PEXPIRE", reply, _ANSWER_MS)])


async def gateways(client: SlotClient) -> Sequence[Gateway]:
    """Return the gateways whose lease is current, by name. Raises Unavailable."""
    lives = await _lives(client)
    notes = await client.run([("HGETALL", node_key(node_of(life))) for life in lives])
    counts = await client.run([("HLEN", held_key(client, life)) for life in lives])
    found = []
    for life, note, count in zip(lives, notes, counts, strict=True):
        fields = _text(note)
        if fields.get("life") == life:
            times = int(fields["since"]), int(fields["lease"])
            found.append(Gateway(node_of(life), life, *times, fields["draining"] == "1", count))
    return sorted(found, key=lambda one: one.node)


async def connections(client: SlotClient, *, user: str | None = None, node: str | None = None) -> Sequence[Held]:
    """Return the connections of a user, of a node, or all; oldest first. Raises Unavailable."""
    lives = await _lives(client)
    if user is not None:
        [found] = await client.run([("ZRANGEBYSCORE", user_key(client, user), now_ms(), "+inf")])
        ids = list(found)
    else:
        wanted = [life for life in lives if node in (None, node_of(life))]
        ids = [id_ for held in await client.run([("HKEYS", held_key(client, life)) for life in wanted]) for id_ in held]
    notes = await client.run([("HGETALL", connection_key(id_.decode())) for id_ in ids])
    all_ = [_held(id_.decode(), note, lives) for id_, note in zip(ids, map(_text, notes), strict=True)]
    return sorted((one for one in all_ if one and node in (None, one.node)), key=lambda one: one.since_ms)


async def connection(client: SlotClient, connection_id: str) -> Held:
    """Return one connection. Raises NotFound, Unavailable."""
    [note] = await client.run([("HGETALL", connection_key(connection_id))])
    found = _held(connection_id, _text(note), await _lives(client))
    if found is None:
        raise NotFound("no such connection, or it has ended")
    return found


async def call(client: SlotClient, node: str, request: Mapping[str, Any], within_s: float = 5.0) -> Any:
    """Publish a request on a gateway's channel, with the key for its answer, and return the answer.

    Raises NoAnswer when the gateway does not answer, Unavailable when Redis does not.
    """
    reply = f"reply:{new_id()}"
    [receivers] = await client.run([("PUBLISH", node_key(node), orjson.dumps({**request, "reply": reply}))])
    if not receivers:
        raise NoAnswer(f"{node} does not answer; check that it runs and uses this Redis")
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        [answer] = await client.run([("LPOP", reply)])
        if answer is not None:
            return orjson.loads(answer)
        await asyncio.sleep(_POLL_S)
    raise NoAnswer(f"{node} does not answer within {within_s:.0f} s; it may have ended just now")


async def _lives(client: SlotClient) -> list[str]:
    [lives] = await client.run([("ZRANGEBYSCORE", LIVES, now_ms(), "+inf")])
    return [life.decode() for life in lives]


def _text(note: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in note.items()}


def _held(id_: str, note: Mapping[str, str], lives: Sequence[str]) -> Held | None:
    if note.get("life") not in lives:
        return None
    return Held(id_, note["user"], note["node"], note["device"], int(note["since"]), int(note["lease"]))
