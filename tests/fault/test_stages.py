"""Rows 22 to 30: no record is lost between the log and its effect, and none has it twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from adapters.kafka.producer import open_log
from runtime.lifecycle import EX_TEMPFAIL
from schemas.codec import Record, record
from schemas.events import MessageCreated
from schemas.ids import new_id
from schemas.topics import stages
from stack.running import RunningStack
from streams.worker import EX_SOFTWARE
from tests import make
from tests.fault import topics
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import lives_of, stopped
from tests.fault.topics import seq_of
from verify.fault_proxy import Trap, TrapAction, open_proxy
from verify.faults.network import COMMIT, COMMITTED

POISON = [b"", b"\x00\xff", b"null", b"{}", b'{"message":{"messageId":7}}', b"[" * 100_000, b" " * 950_000]


async def letters(stack: RunningStack, stage: str, since: dict[int, int], key: bytes, count: int) -> list[Any]:
    """The stage's dead letters of this key, once there are so many."""
    async with asyncio.timeout(30):
        while True:
            found = [each for each in await topics.records(stack.kafka, f"{stage}.dlq", since) if each.key == key]
            if len(found) >= count:
                return found


async def test_row_22_an_event_that_can_never_work_is_set_aside_and_its_neighbours_are_not(stack: RunningStack):
    async with open_chat(stack) as chat, open_log(stack.kafka) as log:
        since, [room, *_] = await topics.ends(stack.kafka, "search.dlq"), chat.rooms
        # Well-formed, of a conversation that is written to, and of no message that the store has.
        never = record(MessageCreated(message=make.message(conversation_id=room, seq=10**6)), producer="test")
        await asyncio.gather(chat.say(100), log.append([never]))
        [letter] = await letters(stack, "search", since, room.encode(), 1)
        about = dict(letter.headers)
        assert letter.value == never.value
        assert about["dlq-origin"].startswith(b"message.created/")
        assert about["dlq-cause"] == b"no such message"
        assert about["ce_id"] == dict(never.headers)["ce_id"]
        await chat.settled()


async def test_row_24_poison_is_a_dead_letter_of_each_stage_and_stops_none(stack: RunningStack):
    async with open_chat(stack) as chat, open_log(stack.kafka) as log:
        key, since = new_id().encode(), {s: await topics.ends(stack.kafka, f"{s}.dlq") for s in stages()}
        poison = [Record("message.created", key, value, (("ce_id", b"poison"),)) for value in POISON]
        await asyncio.gather(chat.say(60, pace_s=0.02), log.append(poison))
        for stage in stages():
            found = await letters(stack, stage, since[stage], key, len(POISON))
            assert [each.value for each in found] == POISON
            assert all(dict(each.headers)["dlq-origin"].startswith(b"message.created/") for each in found)
            assert all(dict(each.headers)["dlq-cause"] for each in found)
            assert all(dict(each.headers)["ce_id"] == b"poison" for each in found)
        await chat.settled()
        await chat.verdict()


async def test_row_25_a_stage_killed_in_its_effect_or_right_after_it_counts_once(stack: RunningStack, beside: Beside):
    async with open_proxy() as before, open_proxy() as after, open_chat(stack, rooms=24, watched=False) as chat:
        uncommitted = await beside("analytics", node="before", pg=before)
        committed = await beside("analytics", node="after", pg=after)
        in_effect = before.up.trap = Trap(TrapAction.HOLD, pattern=COMMIT)
        after_it = after.down.trap = Trap(TrapAction.HOLD, pattern=COMMITTED)
        load = asyncio.create_task(chat.say(96))
        await asyncio.wait_for(asyncio.gather(in_effect.sprung.wait(), after_it.sprung.wait()), 40)
        uncommitted.kill()
        committed.kill()
        await load
        await chat.settled(40)
        await chat.verdict()


@dataclass
class Commits:
    """Samples of what a group had committed, each with what was done in the store right after it."""

    chat: Chat
    group: str
    samples: list[tuple[dict[int, int], set[tuple[str, int]]]] = field(default_factory=list)

    async def run(self) -> None:
        query = """SELECT conversation_id::text, seq FROM messages
        WHERE conversation_id = ANY(%s::uuid[]) AND status > 0"""
        async with await psycopg.AsyncConnection.connect(self.chat.stack.pg_dsn, autocommit=True) as conn:
            while True:
                offsets = await topics.committed(self.chat.stack.kafka, self.group, "message.created")
                rows = await (await conn.execute(query, (list(self.chat.rooms),))).fetchall()
                self.samples.append((offsets, {(room, seq) for room, seq in rows}))
                await asyncio.sleep(0.1)

    async def verdict(self) -> None:
        """I18: nothing was committed that was not done."""
        lying = defaultdict(list)
        for each in await self.chat.created():
            lying[each.partition].append((each.offset, (each.key.decode(), seq_of(each))))
        assert len(self.samples) > 10
        for offsets, done in self.samples:
            for partition, events in lying.items():
                early = [e for at, e in events if at < offsets.get(partition, 0) and e not in done]
                assert not early, f"committed and not done: {early}"


@asynccontextmanager
async def commits_of(chat: Chat, group: str) -> AsyncIterator[Commits]:
    watched = Commits(chat, group)
    task = asyncio.create_task(watched.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await watched.verdict()


@pytest.mark.slow
async def test_row_26_workers_come_die_freeze_and_leave_and_the_group_loses_nothing(
    stack: RunningStack, beside: Beside
):
    async with open_chat(stack, rooms=8, members=2) as chat, commits_of(chat, "status"):
        load = asyncio.create_task(chat.say(600, at_once=4, pace_s=0.05))
        mortal, frozen = await asyncio.gather(beside("status", node="mortal"), beside("status", node="frozen"))
        await asyncio.sleep(0)
        frozen.signal(signal.SIGSTOP)
        mortal.kill()
        await load
        await chat.settled(40)  # without the two: their sessions have run out
        frozen.signal(signal.SIGCONT)
        await chat.say(100)
        await frozen.ready()
        frozen.signal(signal.SIGTERM)
        assert await frozen.ended(25) == 0
        await chat.say(50)
        await chat.settled()
        await chat.verdict()


async def no_letters(stack: RunningStack, chat: Chat, stage: str, since: dict[int, int]) -> None:
    keys = {room.encode() for room in chat.rooms}
    assert not [each for each in await topics.records(stack.kafka, f"{stage}.dlq", since) if each.key in keys]


@pytest.mark.slow
async def test_row_23_a_short_outage_is_waited_out_and_a_long_one_ends_the_worker(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=24, watched=False) as chat, commits_of(chat, "status"):
        since = await topics.ends(stack.kafka, "status.dlq")
        worker = await beside("status", pg=proxy)
        for seconds, code in ((20, None), (90, 75)):
            proxy.refuse()
            proxy.reset()
            began = time.monotonic()
            await chat.say(96)
            if code is None:
                await asyncio.sleep(seconds - (time.monotonic() - began))  # the fault itself
            else:
                assert await worker.ended(seconds) == code
            assert worker.alive == (code is None)
            await proxy.heal()
            await chat.settled(40)
        await no_letters(stack, chat, "status", since)
        await chat.verdict()


@pytest.mark.slow
async def test_row_28_a_handler_that_hangs_is_tried_again_and_stays_in_its_group(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=24, watched=False) as chat:
        since = await topics.ends(stack.kafka, "analytics.dlq")
        worker = await beside("analytics", pg=proxy)
        held = proxy.up.trap = Trap(TrapAction.HOLD, pattern=COMMIT)
        await chat.say(96)
        await asyncio.wait_for(held.sprung.wait(), 30)
        await asyncio.sleep(15)  # the fault itself: longer than the deadline of an attempt
        proxy.reset()
        await proxy.heal()
        await chat.settled(30)
        assert worker.alive
        await no_letters(stack, chat, "analytics", since)
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_29_a_dead_letter_that_is_refused_is_never_skipped(stack: RunningStack):
    key, since = new_id().encode(), await topics.ends(stack.kafka, "search.dlq")
    lives = lives_of(stack, "search")
    async with open_chat(stack) as chat, open_log(stack.kafka) as log:
        await allow(stack, "search.dlq", 100)
        try:
            await log.append([Record("message.created", key, b"{}")])
            async with asyncio.timeout(100):
                while lives_of(stack, "search") == lives:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            await allow(stack, "search.dlq", 2**20)
        [letter] = await letters(stack, "search", since, key, 1)
        assert letter.value == b"{}"
        await chat.say(30)
        await chat.settled(60)
        await chat.verdict()


async def allow(stack: RunningStack, topic: str, most: int) -> None:
    """Set the largest record that the topic takes, in bytes."""
    client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await client.start()
    try:
        size = {"max.message.bytes": str(most)}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=size)])
    finally:
        await client.close()


@pytest.mark.slow
async def test_row_30_a_worker_whose_consumer_crashes_ends_and_another_takes_its_place(
    stack: RunningStack, beside: Beside
):
    async with open_chat(stack, watched=False) as chat:
        with stopped(stack, "search"):
            crashing = await beside("search", wrap=["tests.seeded"], env={"MILLRACE_BUG": "crash-the-consumer"})
            await chat.say(60)
            assert await crashing.ended(30) == EX_SOFTWARE
            assert '"reason": "Faust crashed"' in crashing.log
            crashing.wrap, crashing.env = [], {}
            crashing.start()
            await crashing.ready()
            await chat.settled(60)
        await chat.verdict()


@pytest.mark.slow
async def test_row_30_a_worker_that_fetches_nothing_ends_itself_and_another_takes_its_place(
    stack: RunningStack, beside: Beside
):
    async with open_chat(stack, watched=False) as chat:
        with stopped(stack, "search"):
            stuck = await beside("search", wrap=["tests.seeded"], env={"MILLRACE_BUG": "fetch-nothing"})
            await chat.say(60)
            assert await stuck.ended(60) == EX_TEMPFAIL
            assert "stuck: " in stuck.log
            stuck.wrap, stuck.env = [], {}
            stuck.start()
            await stuck.ready()
            await chat.settled(60)
        await chat.verdict()
