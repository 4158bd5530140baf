"""Making nodes one Redis Cluster: each knows the others, and all slots have an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from adapters.redis.client import OUTAGES, Address, ask, connect, target
from domain.errors import Unavailable

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """A node: where clients find it, and where the other nodes do."""

    host: str
    port: int
    bus_port: int


def shares(count: int) -> list[tuple[int, int]]:
    """The first and last slot of each of ``count`` nodes."""
    edges = [SLOTS * n // count for n in range(count + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


async def form(url: str, members: Sequence[Member], within_s: float = 30.0) -> None:
    """Return when all members are one cluster with all slots. Does only what is missing. Raises Unavailable."""
    to = target(url)
    clients = [connect(to, Address(member.host, member.port)) for member in members]
    deadline = asyncio.get_running_loop().time() + within_s
    try:
        for number, (client, share) in enumerate(zip(clients, shares(len(members)), strict=True), 1):
            await _give(client, number, share)
        for one, other in permutations(range(len(members)), 2):
            it = members[other]  # also to one that is known already: its port may be another than before
            await ask(clients[one], "CLUSTER", "MEET", it.host, it.port, it.bus_port)
        while not all([await _is_whole(client, len(members)) for client in clients]):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"the nodes of the Redis Cluster have not come together in {within_s:.0f} s")
            await asyncio.sleep(_POLL_S)
    except OUTAGES as exc:
        raise Unavailable("a node of the Redis Cluster does not answer") from exc
    finally:
        for client in clients:
            await client.aclose()


async def _give(client: Redis, number: int, share: tuple[int, int]) -> None:
    """Its share of the slots to a node that was never in a cluster."""
    said = await _info(client)
    if said["cluster_known_nodes"] == "1" and said["cluster_slots_assigned"] == "0":
        if said["cluster_current_epoch"] == "0":
            await ask(client, "CLUSTER", "SET-CONFIG-EPOCH", number)
        await ask(client, "CLUSTER", "ADDSLOTSRANGE", *share)


async def _is_whole(client: Redis, count: int) -> bool:
    said = await _info(client)
    wanted = {"cluster_state": "ok", "cluster_slots_ok": str(SLOTS), "cluster_known_nodes": str(count)}
    return wanted.items() <= said.items()


async def _info(client: Redis) -> dict[str, str]:
    said = await ask(client, "CLUSTER", "INFO")
    text = said.decode() if isinstance(said, bytes) else said
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
