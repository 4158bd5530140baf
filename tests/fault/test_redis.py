"""Rows 31 to 36: Redis carries hints; without it, everything arrives a little later."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from stack.running import RunningStack
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.judging import OK
from tests.fault.processes import pid_of, restarted
from verify.fault_proxy import open_proxy
from verify.faults import Target, fault

LATE_S = 6.0
"""Heads are compared every 2 s; the rest is for a machine that is busy."""


def slowest(chat: Chat) -> float:
    """The longest time from an answer to its message on a screen."""
    answered = {(a.room, a.said["seq"]): a.ended for a in chat.attempts if a.status in OK}
    return max(
        at - answered[watcher.room, seq]
        for watcher in chat.watchers
        for seq, at in watcher.screen.shown_at.items()
        if (watcher.room, seq) in answered
    )


async def test_row_31_redis_is_killed_and_what_it_forgot_arrives_all_the_same(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat:
        before = pid_of(stack, "valkey")
        load = asyncio.create_task(chat.say(150, pace_s=0.1))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await fault("kill-valkey").inject(target)
        await load
        await restarted(stack, "valkey", before)
        await chat.settled()
        assert slowest(chat) < LATE_S
        await chat.verdict()


async def test_row_31_while_redis_is_away_the_store_is_followed(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1, watched=False) as chat:
        gateway = await beside("gateway", redis=proxy)
        [(room, users)] = chat.rooms.items()
        await chat.watch(users[0], room, gateway.ws_url)
        proxy.refuse()
        proxy.reset()
        await chat.watch(users[1], room, gateway.ws_url)  # one more may come
        await chat.say(20)
        await chat.settled()
        assert slowest(chat) < LATE_S
        await proxy.heal()
        await chat.say(20)
        await chat.settled()
        await chat.verdict()


async def test_row_32_subscribers_cut_again_and_again_miss_nothing(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat:
        cutting = fault("cut-subscribers")
        await cutting.inject(target)
        await chat.say(200, pace_s=0.1)
        await chat.settled()
        await cutting.heal(target)
        assert slowest(chat) < LATE_S
        await chat.say(20)
        await chat.settled()
        await chat.verdict()


@asynccontextmanager
async def configured(stack: RunningStack, **settings: str) -> AsyncIterator[Redis]:
    """Redis with other settings while the block runs."""
    async with Redis.from_url(stack.redis_url) as redis:
        names = {name: name.replace("_", "-") for name in settings}
        before = {name: (await redis.config_get(dashed))[dashed] for name, dashed in names.items()}
        try:
            for name, value in settings.items():
                await redis.config_set(names[name], value)
            yield redis
        finally:
            for name, earlier in before.items():
                await redis.config_set(names[name], earlier)


@pytest.mark.slow
async def test_row_33_a_redis_that_stands_still_is_noticed_and_the_store_is_followed(
    stack: RunningStack, target: Target
):
    async with open_chat(stack) as chat:
        await chat.say(30)
        standing = fault("pause-valkey")
        await standing.inject(target)
        try:
            await chat.say(150, at_once=5, pace_s=0.4)
            await chat.settled()  # while it still stands
        finally:
            await standing.heal(target)
        assert max(each.ended - each.began for each in chat.attempts) < 5
        assert slowest(chat) < 10
        await chat.say(30)
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
async def test_row_34_a_subscriber_that_redis_cuts_for_being_slow_misses_nothing(stack: RunningStack, beside: Beside):
    limit = "normal 0 0 0 replica 268435456 67108864 60 pubsub 1mb 1mb 1"
    async with configured(stack, client_output_buffer_limit=limit), open_chat(stack, watched=False) as chat:
        gateway = await beside("gateway")
        for room, users in chat.rooms.items():
            await chat.watch(users[1], room, gateway.ws_url)
        gateway.signal(signal.SIGSTOP)
        large = "\N{WATER WAVE}" * 4000
        await asyncio.gather(*(chat.post(room, large) for room in chat.rooms for _ in range(200)))
        await chat_is_sent(chat)
        gateway.signal(signal.SIGCONT)
        await chat.say(30)
        await chat.settled(60)
        await chat.verdict()
        assert "redis_subscription_lost" in gateway.log


async def chat_is_sent(chat: Chat) -> None:
    """All but the screens."""
    watchers, chat.watchers = chat.watchers, []
    await chat.settled(60)
    chat.watchers = watchers


@pytest.mark.slow
async def test_row_36_a_redis_that_forgot_everything_is_told_again(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat, Redis.from_url(stack.redis_url) as redis:
        [user, *_] = next(iter(chat.rooms.values()))
        assert await redis.zcard(f"user:{user}:connected")
        await fault("flush-redis").inject(target)
        assert not await redis.zcard(f"user:{user}:connected")
        began = time.monotonic()
        await chat.say(50)
        await chat.settled()
        assert slowest(chat) < LATE_S
        while not await redis.zcard(f"user:{user}:connected"):
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.1)
        await chat.verdict()


@pytest.mark.slow
async def test_row_36_a_redis_that_is_full_changes_no_message(stack: RunningStack):
    async with configured(stack, maxmemory="1mb", maxmemory_policy="noeviction"), open_chat(stack) as chat:
        await chat.say(60)
        await chat.settled()
        await chat.verdict()
