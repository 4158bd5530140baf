"""Typing and presence: published by one node, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from adapters.memory import redis as memory
from adapters.memory.redis import MemoryEphemeralThrottle
from adapters.redis import presence_throttle as redis_signs
from adapters.redis.presence_throttle import RedisEphemeralThrottle
from adapters.redis.publisher import open_fanout
from domain.presence import EphemeralThrottle
from schemas.ids import new_id
from tests.contract.conftest import real_url


@dataclass
class Two:
    """Two nodes' view of the same signs."""

    one: EphemeralThrottle
    two: EphemeralThrottle


@pytest.fixture(params=["memory", "valkey", "cluster"])
async def signs(request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    if request.param == "memory":
        made = MemoryEphemeralThrottle("one")
        yield Two(made, replace(made, node="two"))
        return
    async with open_fanout(real_url(request)) as fanout:
        yield Two(RedisEphemeralThrottle(fanout.client, "one"), RedisEphemeralThrottle(fanout.client, "two"))


async def test_typing_is_told_by_one_node_once_in_a_while(signs, monkeypatch: pytest.MonkeyPatch):
    for twin in (redis_signs, memory):
        monkeypatch.setattr(twin, "TYPING_S", 0.8)
    room = new_id()
    assert await signs.one.may_type(room, "bob")
    assert not await signs.one.may_type(room, "bob")
    assert not await signs.two.may_type(room, "bob")
    assert await signs.two.may_type(room, "carol")
    assert await signs.two.types_elsewhere(room, "bob")
    assert not await signs.one.types_elsewhere(room, "bob")
    assert not await signs.one.types_elsewhere(new_id(), "bob")
    async with asyncio.timeout(5):
        while not await signs.two.may_type(room, "bob"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await signs.one.types_elsewhere(room, "bob")


async def test_a_change_of_presence_waits_for_its_turn_and_is_told_once(signs):
    user = new_id()
    assert await signs.one.may_tell(user, True) == 0
    assert await signs.two.may_tell(user, True) < 0, "it was told"
    assert 3 < await signs.two.may_tell(user, False) <= 5
    assert await signs.one.may_tell(new_id(), False) == 0
