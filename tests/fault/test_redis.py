"""Rows 31 to 36: Redis carries hints; without it, everything arrives a little later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ops.running import RunningStack
from ops.verify.faults import World, fault
from ops.verify.proxy import open_proxy
from tests.fault.chat import OK, Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import pid_of, restarted

LATE_S = 6.0
"""Heads are compared every 2 s; the rest is for a machine that is busy."""


def slowest(chat: Chat, rooms: Iterable[str] = ()) -> float:
    """The longest time from an answer to its message on a screen."""
    answered = {(a.room, a.said["seq"]): a.ended for a in chat.attempts if a.status in OK}
    return max(
        at - answered[watcher.room, seq]
        for watcher in chat.watchers
        for seq, at in watcher.screen.shown_at.items()
        if (watcher.room, seq) in answered
    )


async def test_row_31_redis_is_killed_and_what_it_forgot_arrives_all_the_same(stack: RunningStack, world: World):
    async with open_chat(stack) as chat:
        before = pid_of(stack, "valkey")
        load = asyncio.create_task(chat.say(150, pace_s=0.1))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await fault("kill-valkey").inject(world)
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


async def test_row_32_subscribers_cut_again_and_again_miss_nothing(stack: RunningStack, world: World):
    async with open_chat(stack) as chat:
        cutting = fault("cut-subscribers")
        await cutting.inject(world)
        await chat.say(200, pace_s=0.1)
        await chat.settled()
        await cutting.heal(world)
        assert slowest(chat) < LATE_S
        await chat.say(20)
        await chat.settled()
        await chat.verdict()
