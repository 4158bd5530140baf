"""What is told of typing and presence, and when: throttles that all nodes share. Advisory only.

* ``conversation:{id}:typing:{userId}``  the node that told of it last; expires after 3 s
* ``user:{userId}:told``                 what was told of the user's presence last, and when
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.redis.registry import now_ms
from adapters.redis.slot_client import Servers
from domain.presence import TYPING_S, told, wait_s

_KEPT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class RedisEphemeralThrottle:
    """Signs, as seen from one node."""

    servers: Servers
    node: str

    async def may_type(self, conversation_id: str, user_id: str) -> bool:
        key = _typing(conversation_id, user_id)
        [done] = await self.servers.run([("SET", key, self.node, "NX", "PX", int(TYPING_S * 1000))])
        return bool(done)

    async def types_elsewhere(self, conversation_id: str, user_id: str) -> bool:
        [node] = await self.servers.run([("GET", _typing(conversation_id, user_id))])
        return node is not None and node.decode() != self.node

    async def may_tell(self, user_id: str, online: bool) -> float:
        key, now = self.servers.name(f"user:{user_id}:told"), now_ms()
        [last] = await self.servers.run([("GET", key)])
        wait = wait_s(last.decode() if last is not None else "", online, now)
        if wait == 0:  # two nodes at the same moment would both tell: once more is no harm
            await self.servers.run([("SET", key, told(online, now), "PX", _KEPT_MS)])
        return wait


def _typing(conversation_id: str, user_id: str) -> str:
    return f"conversation:{conversation_id}:typing:{user_id}"
