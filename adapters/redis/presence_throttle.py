"""Throttles of typing and presence that all nodes share. Advisory only.

* ``conversation:{id}:typing:{userId}``  the node that published it last; expires after 3 s
* ``user:{userId}:told``                 the presence of the user that was published last, and when
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.redis.registry import now_ms
from adapters.redis.slot_client import SlotClient
from domain.presence import TYPING_S, published_change, wait_s

_KEPT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class RedisEphemeralThrottle:
    """EphemeralThrottle, as seen from one node."""

    client: SlotClient
    node: str

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        key = _typing(conversation_id, user_id)
        [taken] = await self.client.run([("SET", key, self.node, "NX", "PX", int(TYPING_S * 1000))])
        return bool(taken)

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        [node] = await self.client.run([("GET", _typing(conversation_id, user_id))])
        return node is not None and node.decode() != self.node

    async def may_tell(self, user_id: str, online: bool) -> float:
        key, now = self.client.name(f"user:{user_id}:told"), now_ms()
        [last] = await self.client.run([("GET", key)])
        wait = wait_s(last.decode() if last is not None else "", online, now)
        if wait == 0:  # two nodes at the same moment both publish, which does no harm
            await self.client.run([("SET", key, published_change(online, now), "PX", _KEPT_MS)])
        return wait


def _typing(conversation_id: str, user_id: str) -> str:
    return f"conversation:{conversation_id}:typing:{user_id}"
