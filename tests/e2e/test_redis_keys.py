"""Redis keeps nothing for good: every key that a flow leaves behind expires, but for a fixed number of marks."""

from __future__ import annotations

import re

from redis import Redis

from stack.running import RunningStack
from tests.e2e.conftest import Person, until

MARKS = re.compile(r"^registry:\d{1,2}:whole$")
"""Sixteen marks by whose absence the registry sees that Redis has lost its keys: they may not expire."""


def lasting(redis: Redis) -> dict[str, int]:
    """Return the keys that do not expire; -1 is that there is no end."""
    keys = [key for key in redis.scan_iter(count=1000) if not MARKS.search(key)]
    ends = {key: int(redis.pttl(key)) for key in keys}  # type: ignore[arg-type]
    return {key: end for key, end in ends.items() if end == -1}


async def test_every_key_that_a_flow_writes_expires(stack: RunningStack, person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    with Redis.from_url(stack.redis_url, decode_responses=True) as redis:
        async with alice.live() as at_alice, bob.live() as at_bob:
            for socket in (at_alice, at_bob):
                await socket.say(type="join_conversation", id=room)
                await socket.next("joined")
            await at_alice.say(type="typing", conversationId=room, isTyping=True)
            await at_bob.next("typing")
            seq = alice.send(room, "hello")["seq"]
            await at_bob.next("new_message")
            await at_bob.say(type="read", conversationId=room, seq=seq)
            await at_alice.next("message_status")
            assert redis.keys(f"*{bob.user}*")
            assert lasting(redis) == {}
        until(lambda: not _connected(redis, bob))
        assert lasting(redis) == {}
        assert redis.dbsize() > 0


def _connected(redis: Redis, person: Person) -> bool:
    return bool(redis.exists(f"user:{person.user}:connected", f"user:{{{person.user}}}:connected"))
