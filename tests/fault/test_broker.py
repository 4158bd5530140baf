"""Rows 17 to 21: the broker distributes work; when it is away, slow or empty, work waits in the store."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from schemas.topics import stages
from stack.running import RunningStack
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.judging import OK
from tests.fault.processes import lives_of, pid_of, restarted, rss_mb
from verify.faults import OURS, Target, fault
from verify.testbed import open_testbed


@pytest.mark.slow
async def test_row_18_a_broker_that_comes_back_empty_is_filled_again(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat:
        await chat.say(60)
        await chat.settled()
        load = asyncio.create_task(chat.say(60, pace_s=0.2))
        before = pid_of(stack, "kafka")
        await fault("wipe-kafka").inject(target)
        chat.since = {}  # it is another log
        await load
        assert {each.status for each in chat.attempts} <= set(OK)
        await restarted(stack, "kafka", before)
        await chat.settled(90)
        await chat.say(30)
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_17_behind_a_hole_before_the_broker_everything_waits_in_order():
    async with (
        open_testbed(cluster=False, environment={}, keep=False, seed=17) as testbed,
        open_chat(testbed.stack) as chat,
    ):
        await chat.say(60)
        testbed.proxies["kafka"].black_hole()
        began = time.monotonic()
        while time.monotonic() < began + 30:  # the fault itself
            await chat.say(20, pace_s=0.2)
        await testbed.proxies["kafka"].heal()
        assert {each.status for each in chat.attempts} <= set(OK)
        assert max(each.ended - each.began for each in chat.attempts) < 2
        await chat.settled(60)
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_20_a_slow_broker_holds_work_back_and_fills_no_memory():
    async with (
        open_testbed(cluster=False, environment={}, keep=False, seed=20) as testbed,
        open_chat(testbed.stack) as chat,
    ):
        await chat.say(60)
        await chat.settled()
        pids = [pid for name in OURS if (pid := pid_of(testbed.stack, name))]
        before = sum(map(rss_mb, pids))
        testbed.proxies["kafka"].slow(0.2, 0.05, 64_000)
        await chat.say(900, at_once=16)
        await chat.settled(100)
        assert sum(map(rss_mb, pids)) - before < 150
        await testbed.proxies["kafka"].heal()
        await chat.say(30)
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_19_a_broker_that_stands_still_stops_no_acceptance(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat:
        await chat.say(60)
        standing = fault("pause-kafka")
        await standing.inject(target)
        try:
            began = time.monotonic()
            while time.monotonic() < began + 25:  # the fault itself
                await chat.say(20, pace_s=0.2)
        finally:
            await standing.heal(target)
        assert {each.status for each in chat.attempts} <= set(OK)
        assert max(each.ended - each.began for each in chat.attempts) < 2
        # A consumer may not find its way back; the watch over its progress ends it after a minute.
        await chat.settled(110)
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_21_a_broker_and_the_stages_end_at_once_and_nothing_is_lost(
    stack: RunningStack, target: Target, beside: Beside
):
    async with open_chat(stack) as chat:
        worker = await beside("status")
        before, lives = pid_of(stack, "kafka"), {stage: lives_of(stack, stage) for stage in stages()}
        load = asyncio.create_task(chat.say(200, pace_s=0.1))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await fault("kill-kafka").inject(target)
        for stage in stages():
            await fault(f"end-{stage}").inject(target)
        worker.signal(signal.SIGTERM)
        assert await worker.ended(75) in (0, 75)
        await load
        await restarted(stack, "kafka", before)
        async with asyncio.timeout(75):
            while any(lives_of(stack, stage) == had for stage, had in lives.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await chat.settled(60)
        await chat.verdict()
