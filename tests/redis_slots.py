"""Slots of a Redis Cluster, moved as an operator moves them."""

from __future__ import annotations

from adapters.redis.client import connect
from adapters.redis.target import target


async def move_slot(url: str, slot: int, port: int) -> None:
    """Give the slot to the node on this port, empty: what it holds is deleted."""
    to = target(url)
    nodes = {address.port: connect(to, address) for address in to.nodes}
    for node in nodes.values():
        for key in await node.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            await node.delete(key)
    name = (await nodes[port].execute_command("CLUSTER", "MYID")).decode()
    for node in sorted(nodes.values(), key=lambda node: node is not nodes[port]):
        await node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
    for node in nodes.values():
        await node.aclose()
