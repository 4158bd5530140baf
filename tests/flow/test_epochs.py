"""A store goes back in time under connected clients: each is told, stays subscribed, and gets what is there now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from typing import Any

import pytest
from millrace_client import Cursor, LiveConnection, MemoryCursors, Reset
from millrace_client.client import Client as StreamClient

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations
from adapters.memory.tables import Tables
from domain.errors import Unavailable
from tests import make
from tests.flow.conftest import Client, World
from tests.flow.test_client import token, url


def backup(world: World) -> Tables:
    """A copy of the store, as of now."""
    return deepcopy(world.tables)


def restore(world: World, copy: Tables, epoch: str | None = "2-restored") -> None:
    """Put the copy in the place of the store; without ``epoch`` it looks like the same server."""
    for field in fields(Tables):
        setattr(world.tables, field.name, getattr(deepcopy(copy), field.name))
    if epoch is not None:
        world.tables.epochs.begin(epoch)


async def shown(client: Client, head: int, *, reset: bool = False) -> list[dict[str, Any]]:
    """The frames with a place, and the resets, until a seq; with ``reset`` until that seq after one."""
    said: list[dict[str, Any]] = []
    while not said or said[-1].get("seq") != head or (reset and all(frame["type"] != "reset" for frame in said)):
        said.append(await client.next("new_message", "conversation_changed", "reset"))
    return said


def contents(said: list[dict[str, Any]]) -> list[str]:
    return [frame["message"]["content"] for frame in said if frame["type"] == "new_message"]


async def test_a_cursor_beyond_the_head_is_reset_and_joined(world: World):
    await world.send()
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=7)
        reset = await bob.next()
        assert (reset["type"], reset["conversationId"], reset["from"]) == ("reset", make.ROOM, 1)
        joined = await bob.next()
        assert (joined["type"], joined["seq"], joined["epoch"]) == ("joined", 1, reset["epoch"])
        await world.send()
        assert await bob.seqs(1) == [2]


@pytest.mark.parametrize("told", [True, False], ids=["over Redis", "found"])
async def test_a_connected_client_drops_what_the_store_lost_and_gets_what_it_has_now(world: World, told: bool):
    await world.send("kept")
    copy = backup(world)
    async with world.client() as bob:
        for _ in range(3):
            await world.send("lost")
        assert await bob.join(after=0) == [1, 2, 3, 4]
        restore(world, copy)
        for n in range(5):  # beyond the cursor that bob had
            await world.send(f"new {n}", told=told)
        said = await shown(bob, 6, reset=True)
        resets = [nth for nth, frame in enumerate(said) if frame["type"] == "reset"]
        assert [said[nth]["from"] for nth in resets] == [1]
        assert contents(said[resets[0] :]) == [f"new {n}" for n in range(5)]


async def test_a_store_that_only_lost_its_end_is_noticed_without_a_message(world: World):
    await world.send("kept")
    copy = backup(world)
    await world.send("lost")
    async with world.client() as bob:
        await bob.join(after=0)
        restore(world, copy, epoch=None)
        assert (await bob.next("reset"))["from"] == 1
        await world.send("new")
        assert contents([await bob.next("new_message")]) == ["new"]


async def test_a_client_that_comes_back_later_is_reset_although_the_head_is_beyond_its_cursor(world: World):
    await world.send("kept")
    copy = backup(world)
    await world.send("lost")
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=0)
        epoch = (await bob.next("joined"))["epoch"]
    restore(world, copy)
    for n in range(3):
        await world.send(f"new {n}")
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=2, epoch=epoch)
        said = await shown(bob, 4)
        assert (said[0]["type"], said[0]["from"], said[0]["epoch"]) == ("reset", 1, "2-restored")
        assert contents(said) == ["new 0", "new 1", "new 2"]
        assert (await bob.next("joined"))["epoch"] == "2-restored"


async def test_a_cursor_of_an_earlier_epoch_holds_up_to_what_is_shared(world: World):
    for _ in range(3):
        await world.send()
    before = world.tables.epochs.id
    world.tables.epochs.begin("2-restarted")
    await world.send()
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=2, epoch=before)
        assert await bob.seqs(2) == [3, 4]
        assert (await bob.next("joined", "reset"))["type"] == "joined"


async def test_of_an_unknown_epoch_nothing_is_shared(world: World):
    await world.send()
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=1, epoch="9-elsewhere")
        assert [(said["type"], said.get("from", said.get("seq"))) for said in await shown(bob, 1)] == [
            ("reset", 0),
            ("new_message", 1),
        ]


async def test_after_a_mere_restart_nothing_is_dropped_or_sent_again(world: World):
    for _ in range(3):
        await world.send()
    async with world.client() as bob:
        assert await bob.join(after=0) == [1, 2, 3]
        world.tables.epochs.begin("2-restarted")
        reset = await bob.next("reset")
        assert (reset["from"], reset["epoch"]) == (3, "2-restarted")
        await world.send()
        assert await bob.seqs(1) == [4]
        await bob.say(type="ack", conversationId=make.ROOM, seq=4, ref="ack")
        await bob.say(type="ping", ref="ping")
        assert (await bob.next("pong", "error"))["ref"] == "ping"


async def test_who_is_no_member_in_the_restored_store_leaves(world: World):
    copy = backup(world)
    await MemoryConversations(world.tables).add(make.ROOM, "dora", by="alice")
    async with world.client("dora") as dora, world.client() as bob:
        await dora.join(after=0)
        await bob.join(after=0)
        restore(world, copy)
        assert (await dora.next("left"))["reason"] == "removed"
        await world.send("not for dora")
        assert contents(await shown(bob, 1)) == ["not for dora"]
        await dora.say(type="ping")
        assert (await dora.next("pong", "new_message"))["type"] == "pong"


@contextmanager
def away() -> Iterator[None]:
    """The store does not answer."""

    async def unavailable(*_: Any) -> Any:
        raise Unavailable("PostgreSQL does not answer")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("membership", "heads", "changes", "shared"):
            patch.setattr(MemoryHistory, name, unavailable)
        yield


async def test_a_store_that_is_away_for_a_while_and_comes_back_older(world: World):
    await world.send("kept")
    copy = backup(world)
    await world.send("lost")
    async with world.client() as bob, world.client("carol") as carol:
        await bob.join(after=0)
        await carol.join()
        with away():
            restore(world, copy)
            await asyncio.sleep(0.5)  # more than one comparison
        await world.send("new")
        for client in (bob, carol):
            said = await shown(client, 2, reset=True)
            assert [frame["from"] for frame in said if frame["type"] == "reset"] == [1]
            assert contents(said) == ["new"]


async def test_the_client_library_keeps_its_streams_and_stored_cursors_right(world: World):
    await world.send("kept")
    copy = backup(world)
    await world.send("lost 1")
    await world.send("lost 2")
    cursors = MemoryCursors()
    live = LiveConnection(url(world), token(), cursors=cursors)
    client = StreamClient(None, live)
    stream = client.follow(make.ROOM, after=0)
    task = asyncio.create_task(client.run())
    screen: list[str] = []

    async def show(until: str) -> None:
        async for frame in stream:
            if isinstance(frame, Reset):
                del screen[frame.start :]
            if hasattr(frame, "message"):
                screen.append(frame.message.content)
            if screen[-1:] == [until]:
                return

    async with asyncio.timeout(10):
        await show("lost 2")
        restore(world, copy)
        await world.send("new 1")
        await world.send("new 2")
        await show("new 2")
        assert screen == ["kept", "new 1", "new 2"]
        await live.close()
        async for _ in stream:
            pass
        await task
    assert cursors.load(make.ROOM) == Cursor(3, "2-restored")
