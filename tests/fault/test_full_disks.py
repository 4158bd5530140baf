"""Rows 10, 18c and 36c: the disk on which a server writes is full, and has room again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fault.chat import Chat, open_chat
from tests.fault.judging import OK
from verify.faults import Target, fault, target_of
from verify.faults.disk import FullDisk
from verify.planning import can_mount
from verify.testbed import open_testbed

LARGE = "\N{WATER WAVE}" * 4000
_NOTICES_S = 90.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not can_mount(), reason="only root may mount a small disk"),
]


@asynccontextmanager
async def open_small_site() -> AsyncIterator[tuple[Chat, Target]]:
    """Yield a load on a stack of its own, with mounts that nobody else sees."""
    opened = open_testbed(cluster=False, environment={}, keep=False, seed=10, own_mounts=True)
    async with opened as testbed, open_chat(testbed.stack) as chat:
        await chat.say(30)
        yield chat, target_of(testbed.stack, random.Random(1), testbed.proxies)


async def all_is_well(chat: Chat) -> None:
    await chat.say(30)
    await chat.settled(90)
    await chat.verdict()


async def test_row_10_a_full_disk_refuses_messages_and_keeps_those_it_took():
    full = fault("full-postgres")
    async with open_small_site() as (chat, target):
        room, *_ = chat.rooms
        await full.inject(target)
        before = len(chat.attempts)
        async with asyncio.timeout(_NOTICES_S):
            while all(each.status in OK for each in chat.attempts[before:]):
                await asyncio.gather(*(chat.attempt(room, LARGE) for _ in range(20)))
        for _ in range(20):
            await chat.attempt(room, LARGE)
        await full.heal(target)
        assert {each.status for each in chat.attempts[before:]} <= {*OK, 503}
        assert full.evidence
        await all_is_well(chat)


@pytest.mark.parametrize("server", ["kafka", "valkey"])
async def test_row_18c_36c_a_full_disk_of_kafka_or_redis_refuses_no_message(server: str):
    full = fault(f"full-{server}")
    assert isinstance(full, FullDisk)
    async with open_small_site() as (chat, target):
        await full.inject(target)
        before = len(chat.attempts)
        async with asyncio.timeout(_NOTICES_S):
            while not await full.is_told():
                await chat.say(40, pace_s=0.2)
        await full.heal(target)
        assert {each.status for each in chat.attempts[before:]} <= set(OK)
        assert full.evidence
        await all_is_well(chat)
