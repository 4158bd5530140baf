"""Row 53: the power fails, for every process at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.fault.chat import open_chat
from verify.faults import fault, target_of
from verify.testbed import open_testbed

TIMES = 3


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_row_53_all_processes_killed_at_once_lose_nothing_again_and_again():
    async with (
        open_testbed(cluster=False, environment={}, keep=False, seed=53) as testbed,
        open_chat(testbed.stack) as chat,
    ):
        for _ in range(TIMES):
            load = asyncio.create_task(chat.say(90, pace_s=0.1))
            before = len(chat.attempts)
            while len(chat.attempts) < before + 30:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            dark = fault("blackout")
            await dark.inject(target_of(testbed.stack, random.Random(1)))
            assert dark.evidence
            await load
            await chat.settled(120)
        await chat.verdict()
