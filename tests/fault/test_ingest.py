"""Rows 1 to 4: an accepted message is one row, and an unknown outcome can be asked for."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from schemas.ids import new_id
from stack.running import RunningStack
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.judging import OK
from tests.fault.processes import Extra
from verify.fault_proxy import FaultProxy, Trap, TrapAction, open_proxy
from verify.faults.network import ACCEPTED, ACCEPTING


async def killed_while_held(chat: Chat, ingest: Extra, proxy: FaultProxy, trap: Trap) -> list[str]:
    """Post to this ingest until it is held at the trap, and kill it there. The keys; none was answered."""
    [room] = chat.rooms
    keys = [new_id() for _ in range(5)]
    posts = [asyncio.create_task(chat.attempt(room, f"held {k}", key=k, door=ingest.http_url)) for k in keys]
    await asyncio.wait_for(trap.sprung.wait(), 5)
    ingest.kill()
    made = await asyncio.gather(*posts)
    assert {each.status for each in made} == {None}
    proxy.reset()  # what was held does not go on by itself
    await proxy.heal()
    return keys


async def test_row_01_a_request_that_dies_with_ingest_is_stored_once_by_its_retry(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        ingest = await beside("ingest", pg=proxy)
        trap = proxy.up.trap = Trap(TrapAction.HOLD, pattern=ACCEPTING)
        for key in await killed_while_held(chat, ingest, proxy, trap):
            [room] = chat.rooms
            again = await chat.post(room, f"held {key}", key=key)
            assert (again.status, again.replayed) == (201, False)
        await chat.settled()
        await chat.verdict()


async def test_row_02_a_commit_whose_answer_dies_with_ingest_is_replayed(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        ingest = await beside("ingest", pg=proxy)
        trap = proxy.down.trap = Trap(TrapAction.HOLD, pattern=ACCEPTED)
        keys = await killed_while_held(chat, ingest, proxy, trap)
        [room] = chat.rooms
        again = [await chat.post(room, f"held {key}", key=key) for key in keys]
        assert any(each.replayed for each in again)  # those of the batch that was committed
        assert sorted(each.said["seq"] for each in again) == [1, 2, 3, 4, 5]
        third = await chat.attempt(room, f"held {keys[0]}", key=keys[0])
        assert (third.status, third.said) == (200, again[0].said)
        await chat.settled()
        await chat.verdict()


async def test_row_03_parallel_posts_of_one_key_at_two_doors_are_one_message(stack: RunningStack, beside: Beside):
    ingest = await beside("ingest")
    async with open_chat(stack, rooms=1, doors=[stack.http_url, ingest.http_url]) as chat:
        [room], key = chat.rooms, new_id()

        async def until_known(n: int) -> None:
            status = None
            while status not in OK:
                status = (await chat.attempt(room, "once", key=key, door=chat.doors[n % 2])).status

        await asyncio.gather(*(until_known(n) for n in range(20)))
        known = [each for each in chat.attempts if each.status in OK]
        assert len(known) == 20
        assert len({each.said["messageId"] for each in known}) == 1
        assert sum(each.status == 201 for each in known) == 1
        await chat.settled()
        await chat.verdict()


async def test_row_04_the_same_key_with_another_content_writes_nothing(stack: RunningStack):
    async with open_chat(stack, rooms=1) as chat:
        [room], key = chat.rooms, new_id()
        await chat.post(room, "first", key=key)
        other = await chat.attempt(room, "second", key=key)
        assert (other.status, other.said["code"]) == (422, "idempotency_mismatch")
        await chat.post(room, "third")
        await chat.settled()
        await chat.verdict()  # two rows, two events, two frames
        assert all(sorted(w.screen.seen.seqs) == [1, 2] for w in chat.watchers)


@pytest.mark.slow
async def test_row_05_what_a_frozen_ingest_does_late_makes_no_second_message(stack: RunningStack, beside: Beside):
    ingest = await beside("ingest")
    async with open_chat(stack, doors=[ingest.http_url, stack.http_url]) as chat:
        load = asyncio.create_task(chat.say(200, at_once=16, pace_s=0.5))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ingest.signal(signal.SIGSTOP)
        await asyncio.sleep(15)  # the fault itself
        ingest.signal(signal.SIGCONT)
        await load
        assert any(each.error == "ReadTimeout" for each in chat.attempts)
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
async def test_row_06_an_ingest_told_to_end_answers_what_it_took(stack: RunningStack, beside: Beside):
    ingest = await beside("ingest")
    async with open_chat(stack, doors=[ingest.http_url, stack.http_url]) as chat:
        load = asyncio.create_task(chat.say(600, at_once=32))
        while len(chat.attempts) < 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        began = time.monotonic()
        ingest.signal(signal.SIGTERM)
        assert await ingest.ended(20 - (time.monotonic() - began)) == 0
        await load
        assert any(each.error for each in chat.attempts)
        # A retry that finds its message stored would mean that an answer was lost.
        assert not [each for each in chat.attempts if each.replayed]
        await chat.settled()
        await chat.verdict()
