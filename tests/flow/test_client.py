"""The client library against a real gateway on twins: resume, gaps, refresh, limits, reconnects."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from millrace_client import (
    LiveConnection,
    MemoryCursors,
    PresenceUpdated,
    SqliteCursors,
    TypingUpdated,
)

from adapters.memory.effects import MemoryStatuses
from streams.stages.status import watermarks_of
from tests import make

from .conftest import World
from .following import Shown, following, message, running, token, until, url


async def test_it_replays_and_follows(world: World):
    head = await world.send()
    async with following(world) as (_, subscription, shown):
        assert shown.seqs == list(range(1, head + 1))
        await world.send()
        await until(lambda: subscription.cursor == head + 1)
    assert (shown.start, shown.disconnects) == (0, [])


async def test_without_a_cursor_it_begins_now(world: World):
    head = await world.send()
    async with following(world, after=None) as (_, _, shown):
        await world.send()
        await until(lambda: shown.seqs == [head + 1])
    assert shown.start == head


async def test_after_a_cut_it_resumes_from_its_cursor(world: World):
    head = await world.send()
    async with following(world) as (live, subscription, shown):
        for n in range(1, 4):
            live.abort()
            await world.send(told=n % 2 == 0)
            await until(lambda n=n: live.reconnects >= n and subscription.cursor == head + n)
    assert shown.seqs == list(range(1, head + 4))
    assert subscription.sync.gaps == 0


async def test_a_hole_in_what_the_server_sends_is_filled(world: World):
    head = await world.send()
    async with following(world) as (_, subscription, shown):
        # The third next frame reaches the client without the two before it.
        await world.send(told=False)
        await world.send(told=False)
        [connection] = world.gateway.connections.values()
        connection.reply(message(head + 3))
        await until(lambda: subscription.cursor == head + 2)
        assert subscription.sync.gaps == 1
        await world.send()
        await until(lambda: subscription.cursor == head + 3)
    assert shown.seqs == list(range(1, head + 4))


async def test_what_is_sent_twice_is_shown_once(world: World):
    head = await world.send()
    async with following(world) as (_, subscription, shown):
        [connection] = world.gateway.connections.values()
        for _ in range(2):
            connection.reply(message(head))
        await until(lambda: subscription.sync.repeats == 2)
    assert shown.seqs == list(range(1, head + 1))


@pytest.mark.parametrize("kept", ["memory", "sqlite"])
async def test_a_stored_cursor_is_where_the_next_run_begins(world: World, tmp_path: Path, kept: str):
    memory = MemoryCursors()
    seen: list[list[int]] = []
    for _ in range(2):
        await world.send()
        cursors = memory if kept == "memory" else SqliteCursors(tmp_path / "c.db")
        shown = Shown()
        live = LiveConnection(url(world), token(), cursors=cursors)
        subscription = live.subscribe(make.ROOM, shown, after=0)
        async with running(live), asyncio.timeout(10):
            await subscription.ready.wait()
        seen.append(shown.seqs)
    assert seen[0] == list(range(1, seen[0][-1] + 1))
    assert seen[1] == [seen[0][-1] + 1]


async def test_receipts_reach_the_log(world: World):
    head = await world.send()
    async with following(world) as (_, subscription, _shown):
        await subscription.acknowledge(read=True)
        await until(lambda: [e.read_seq for e in world.log.events("receipt.recorded")] == [head])


async def test_a_receipt_that_died_with_its_node_is_said_again_in_a_quiet_conversation(world: World):
    head = await world.send()
    statuses = MemoryStatuses(world.tables)
    async with following(world) as (live, subscription, _shown):
        buffer = world.gateway.commands.receipts._buffer
        await subscription.acknowledge(read=True)
        await until(lambda: world.log.events("receipt.recorded") or buffer.waiting)
        world.log.records.clear()  # as if the node had died before it appended
        buffer.waiting.clear()
        buffer.sent_at.clear()
        live.abort()
        await until(lambda: [e.read_seq for e in world.log.events("receipt.recorded")] == [head])
        # What is stored is not said again, however often the connection is lost.
        await statuses.advance(watermarks_of(world.log.events("receipt.recorded")), 32)
        world.log.records.clear()
        for number in (2, 3):
            live.abort()
            await until(lambda number=number: live.reconnects == number and subscription.sync.in_step)
        await world.gateway.commands.receipts.flush()
        assert world.log.events("receipt.recorded") == []
        assert buffer.waiting == {}


async def test_typing_and_presence_are_frames(world: World):
    await world.send()  # presence is shown where its user has written
    async with following(world) as (_, _, shown), following(world, user="alice") as (_, alice, _):
        for _ in range(5):  # for each key; the library sends one
            await alice.send_typing()
        await until(lambda: shown.count(TypingUpdated))
        await until(
            lambda: any(isinstance(f, PresenceUpdated) and f.online and f.user_id == "alice" for f in shown.frames)
        )
        assert [f.is_typing for f in shown.frames if isinstance(f, TypingUpdated)] == [True]
