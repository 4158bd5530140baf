"""Rows 17 to 21: the broker distributes work; when it is away, slow or empty, work waits in the store."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from ops.running import RunningStack
from ops.verify.faults import World, fault
from tests.fault.chat import OK, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import lives_of, pid_of, restarted

STAGES = ("status", "notification", "media", "search", "analytics")


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_19_a_broker_that_stands_still_stops_no_acceptance(stack: RunningStack, world: World):
    async with open_chat(stack) as chat:
        await chat.say(60)
        standing = fault("pause-kafka")
        await standing.inject(world)
        try:
            began = time.monotonic()
            while time.monotonic() < began + 25:  # the fault itself
                await chat.say(20, pace_s=0.2)
        finally:
            await standing.heal(world)
        assert {each.status for each in chat.attempts} <= set(OK)
        assert max(each.ended - each.began for each in chat.attempts) < 2
        await chat.settled(60)
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_21_a_broker_and_the_stages_end_at_once_and_nothing_is_lost(
    stack: RunningStack, world: World, beside: Beside
):
    async with open_chat(stack) as chat:
        worker = await beside("status")
        before, lives = pid_of(stack, "kafka"), {stage: lives_of(stack, stage) for stage in STAGES}
        load = asyncio.create_task(chat.say(200, pace_s=0.1))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await fault("kill-kafka").inject(world)
        for stage in STAGES:
            await fault(f"end-{stage}").inject(world)
        worker.signal(signal.SIGTERM)
        assert await worker.ended(75) in (0, 75)
        await load
        await restarted(stack, "kafka", before)
        async with asyncio.timeout(75):
            while any(lives_of(stack, stage) == had for stage, had in lives.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await chat.settled(60)
        await chat.verdict()
