"""Row 43: the last mile is bad, and the screen does not show it."""

from __future__ import annotations

import asyncio
import random

import pytest

from stack.running import RunningStack
from tests.fault.chat import open_chat
from tests.fault.processes import through
from verify.fault_proxy import open_proxy


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["slices", "resets", "hole", "slow"])
async def test_row_43_a_bad_link_shows_nowhere(stack: RunningStack, trouble: str):
    async with open_proxy() as link, open_chat(stack, watched=False) as chat:
        through(stack.ws_url, link)
        url = f"ws://127.0.0.1:{link.port}/ws"
        for room, users in chat.rooms.items():
            for user in users:
                await chat.watch(user, room, url)
        load = asyncio.create_task(chat.say(200, at_once=4, pace_s=0.1))
        match trouble:
            case "slices":
                link.up.slices = link.down.slices = True
            case "slow":
                link.slow(0.2, 0.1, 4000)
            case "resets":
                while not load.done():
                    await asyncio.sleep(random.uniform(0.1, 1.0))
                    link.reset()
            case "hole":
                link.black_hole()
                await asyncio.sleep(10)  # the fault itself
        await load
        if trouble in ("resets", "hole"):
            await link.heal()
        await chat.settled(60)
        await link.heal()
        await chat.verdict()
        assert trouble != "resets" or all(watcher.live.reconnects for watcher in chat.watchers)
