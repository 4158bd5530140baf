"""Rows 11 and 14 to 16: what the outbox owes is published, whatever becomes of who publishes it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from adapters.postgres.statements import load
from stack.running import RunningStack
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import all_shards_owned, evict_relays, nothing_owed, stopped
from tests.fault.topics import seq_of
from verify.fault_proxy import Trap, TrapAction, open_proxy
from verify.faults.network import DECIDING

MARK = load("outbox")["mark"].split("%")[0].encode()


async def times_published(chat: Chat) -> Counter[tuple[str, int]]:
    return Counter((each.key.decode(), seq_of(each)) for each in await chat.created())


async def until_published(chat: Chat, what: Callable[[Counter[tuple[str, int]]], bool]) -> None:
    async with asyncio.timeout(15):
        while not what(await times_published(chat)):
            pass


async def test_row_14_a_relay_killed_between_sending_and_marking_sends_again(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack) as chat:
        await nothing_owed(stack)
        with stopped(stack, "ingest"):
            evict_relays(stack)
            ingest = await beside("ingest", pg=proxy)
            chat.doors = [ingest.http_url]
            await all_shards_owned(stack)
            trap = proxy.up.trap = Trap(TrapAction.HOLD, pattern=MARK)
            # The first batch is in the log when it would be marked; what comes after it is not even read.
            await asyncio.gather(*(chat.attempt(room, "first") for room in chat.rooms))
            await asyncio.wait_for(trap.sprung.wait(), 10)
            ingest.kill()
            once = await times_published(chat)
            assert set(once.values()) == {1}
            await proxy.close()
            await proxy.heal()
            ingest.start()
            await ingest.ready()
            await chat.say(30)
            await chat.settled()
        again = await times_published(chat)
        assert all(again[which] > 1 for which in once), "the killed batch was not sent again"
        await chat.verdict()


async def test_row_15_what_a_relay_sends_after_losing_its_shards_changes_nothing(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        [room] = chat.rooms
        with stopped(stack, "ingest"):
            evict_relays(stack)
            zombie = await beside("ingest", node="zombie", pg=proxy)
            before = await all_shards_owned(stack)
            heir = await beside("ingest", node="heir")
            chat.doors = [heir.http_url]
            # The zombie has asked for what is owed, and is stopped before the answer reaches it.
            said = "said to the zombie"
            trap = proxy.down.trap = Trap(TrapAction.HOLD, pattern=said.encode())
            await chat.post(room, said)
            await asyncio.wait_for(trap.sprung.wait(), 10)
            zombie.signal(signal.SIGSTOP)
            evict_relays(stack)
            await all_shards_owned(stack, but_not_by=before)
            await chat.say(20)
            await chat.settled()
            assert set((await times_published(chat)).values()) == {1}
            zombie.signal(signal.SIGCONT)
            await proxy.heal()
            await until_published(chat, lambda times: times[room, 1] > 1)
            await chat.say(10)
            await chat.settled()
        order = [seq_of(each) for each in await chat.created()]
        assert order.index(2) < len(order) - 1 - order[::-1].index(1), "the old event was not sent late"
        await chat.verdict()


async def test_row_16_a_commit_that_comes_late_is_not_overlooked(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=3) as chat:
        late, *others = chat.rooms
        await all_shards_owned(stack)  # by the relay that is not held below
        ingest = await beside("ingest", pg=proxy)
        first = await chat.post(late, "first", sender=chat.rooms[late][1])
        trap = proxy.up.trap = Trap(TrapAction.HOLD, pattern=DECIDING)
        reply = chat.attempt(
            late, "begun first, committed last", door=ingest.http_url, reply_to=first.said["messageId"]
        )
        held = asyncio.create_task(reply)
        await asyncio.wait_for(trap.sprung.wait(), 5)
        for n in range(10):
            await chat.post(others[n % 2], f"meanwhile {n}")
        await until_published(chat, lambda times: len(times) == 11)
        assert not held.done()
        await proxy.heal()
        assert (await held).status == 201
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
async def test_row_15_a_frozen_relay_is_let_go_of(stack: RunningStack, beside: Beside):
    async with open_chat(stack) as chat:
        await all_shards_owned(stack)
        with stopped(stack, "ingest"):
            heir = await beside("ingest", node="heir")
            chat.doors = [heir.http_url]
            await chat.say(20)
            await chat.settled(40)
        await chat.say(20)
        await chat.settled()
        await chat.verdict()
