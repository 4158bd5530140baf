"""Setup of a Redis Cluster: makes its nodes known to each other, and gives every slot an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import structlog
from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from adapters.redis.client import OUTAGES, connect, execute
from adapters.redis.target import Address, target
from domain.errors import Unavailable

_log = structlog.get_logger()

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """Node of the cluster: its address for clients, and its port for the other nodes."""

    host: str
    port: int
    bus_port: int


def shares(count: int) -> list[tuple[int, int]]:
    """Return the first and last slot of each of ``count`` nodes."""
    edges = [SLOTS * n // count for n in range(count + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


async def form(url: str, members: Sequence[Member], within_s: float = 30.0) -> None:
    """Return when all members are one cluster with all slots. Does only what is missing. Raises Unavailable.

    A node that lost its files is another node, which takes the place of the one that it was.
    """
    to = target(url)
    clients = [connect(to, Address(member.host, member.port)) for member in members]
    deadline = asyncio.get_running_loop().time() + within_s
    try:
        await _forget_strangers(clients)
        for number, (client, share) in enumerate(zip(clients, shares(len(members)), strict=True), 1):
            await _give_slots(client, number, share)
        for one, other in permutations(range(len(members)), 2):
            peer = members[other]  # also one that is known already: its port may have changed
            await execute(clients[one], "CLUSTER", "MEET", peer.host, peer.port, peer.bus_port)
        while not all([await _is_complete(client, len(members)) for client in clients]):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"the nodes of the Redis Cluster have not come together in {within_s:.0f} s")
            await asyncio.sleep(_POLL_S)
        _log.debug("redis_cluster_formed", nodes=len(members), servers=[f"{m.host}:{m.port}" for m in members])
    except OUTAGES as exc:
        raise Unavailable("a node of the Redis Cluster does not answer") from exc
    finally:
        for client in clients:
            await client.aclose()


async def _forget_strangers(clients: Sequence[Redis]) -> None:
    """Let the members forget all nodes that are none of them; the slots of these have no owner then."""
    ids = {_text(await execute(client, "CLUSTER", "MYID")) for client in clients}
    for client in clients:
        for line in _text(await execute(client, "CLUSTER", "NODES")).splitlines():
            node, _, flags, *_ = line.split(" ")
            if node not in ids and "handshake" not in flags:
                await execute(client, "CLUSTER", "FORGET", node)
                _log.debug("redis_node_forgotten", server=node)


async def _give_slots(client: Redis, number: int, share: tuple[int, int]) -> None:
    """Give a node that was never in a cluster its share of the slots."""
    info = await _info(client)
    if info["cluster_known_nodes"] == "1" and info["cluster_slots_assigned"] == "0":
        if info["cluster_current_epoch"] == "0":
            await execute(client, "CLUSTER", "SET-CONFIG-EPOCH", number)
        await execute(client, "CLUSTER", "ADDSLOTSRANGE", *share)


async def _is_complete(client: Redis, count: int) -> bool:
    info = await _info(client)
    wanted = {"cluster_state": "ok", "cluster_slots_ok": str(SLOTS), "cluster_known_nodes": str(count)}
    return wanted.items() <= info.items()


async def _info(client: Redis) -> dict[str, str]:
    reply = await execute(client, "CLUSTER", "INFO")
    return dict(line.split(":", 1) for line in _text(reply).split("\r\n") if ":" in line)


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
