"""Typing: who sees it, how often, and all the ways in which it ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from adapters.memory import redis as memory
from adapters.memory.intake import MemoryConversations
from domain.presence import TYPING_S
from gateway import typing
from tests import make

QUICK_S = 0.8


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time than in earnest."""
    monkeypatch.setattr(typing, "TYPING_S", QUICK_S)
    monkeypatch.setattr(memory, "TYPING_S", QUICK_S)
    monkeypatch.setattr(typing, "_ASK_S", QUICK_S / 6)


async def types(client, is_typing: bool = True) -> None:
    """One sign, which has been taken when this returns."""
    await client.say(type="typing", conversationId=make.ROOM, isTyping=is_typing)
    await client.say(type="ping")
    assert (await client.next("pong", "error"))["type"] == "pong"


async def quiet(client) -> bool:
    """Whether nothing about typing has come, of all that was said before now."""
    await client.say(type="ping")
    return (await client.next("typing", "pong"))["type"] == "pong"


async def test_typing_is_told_to_others_once_in_a_while_over_all_nodes(world, other, quick):
    async with world.client() as bob, other.client() as bob_too, other.client("alice") as alice:
        for client in (bob, bob_too, alice):
            await client.join()
        began = time.monotonic()
        told = []
        while time.monotonic() - began < QUICK_S * 1.4:
            await types(bob)
            await types(bob_too)
            await asyncio.sleep(0.03)
        while not told or told[-1]["isTyping"]:
            told.append(await alice.next("typing"))
        assert [said["isTyping"] for said in told] == [True, True, False]
        assert {said["userId"] for said in told} == {"bob"}
        assert await quiet(bob), "nobody is told of himself"
        assert await quiet(bob_too)


async def test_typing_ends_by_itself_some_time_after_the_last_sign(world, quick):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join()
        await alice.join()
        await types(bob)
        assert (await alice.next("typing"))["isTyping"] is True
        began = time.monotonic()
        assert (await alice.next("typing"))["isTyping"] is False
        assert QUICK_S / 2 < time.monotonic() - began < QUICK_S + 1


async def test_typing_ends_with_the_socket_but_not_with_another_one_of_the_user(world):
    async with world.client("alice") as alice, world.client() as laptop:
        await alice.join()
        await laptop.join()
        async with world.client() as phone:
            await phone.join()
            await types(laptop)
            await types(phone)
            assert (await alice.next("typing"))["isTyping"] is True
        await types(laptop)
        assert await quiet(alice), "the laptop still types"
        began = time.monotonic()
        await types(laptop, False)
        assert (await alice.next("typing"))["isTyping"] is False
        assert time.monotonic() - began < TYPING_S - 1


async def test_the_end_of_a_socket_that_types_is_broadcast_at_once(world):
    async with world.client("alice") as alice:
        await alice.join()
        async with world.client() as bob:
            await bob.join()
            await types(bob)
            assert (await alice.next("typing"))["isTyping"] is True
        began = time.monotonic()
        assert (await alice.next("typing"))["isTyping"] is False
        assert time.monotonic() - began < TYPING_S - 1


async def test_leaving_a_conversation_ends_typing_in_it(world):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join()
        await alice.join()
        await types(bob)
        assert (await alice.next("typing"))["isTyping"] is True
        began = time.monotonic()
        await bob.say(type="leave_conversation", id=make.ROOM)
        assert (await alice.next("typing"))["isTyping"] is False
        assert time.monotonic() - began < TYPING_S - 1
        await bob.say(type="typing", conversationId=make.ROOM, isTyping=True)
        assert (await bob.next("error"))["code"] == "not_found"


async def test_who_is_removed_types_no_more(world):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join(after=0)
        await alice.join(after=0)
        await types(bob)
        assert (await alice.next("typing"))["isTyping"] is True
        began = time.monotonic()
        await MemoryConversations(world.tables).remove(make.ROOM, "bob", by="alice")
        await world.tell(1)
        assert (await alice.next("typing"))["isTyping"] is False
        assert time.monotonic() - began < TYPING_S - 1
        await bob.say(type="typing", conversationId=make.ROOM, isTyping=True)
        assert (await bob.next("error"))["code"] == "not_found"
        assert await quiet(alice)


async def test_who_is_no_member_types_nowhere_while_that_is_found_out(world):
    async with world.client("alice") as alice, world.client("eve") as eve:
        await alice.join()
        await eve.say(type="join_conversation", id=make.ROOM)
        await eve.say(type="typing", conversationId=make.ROOM, isTyping=True)
        assert (await eve.next("error"))["code"] == "not_found"
        assert await quiet(alice)


async def test_the_typing_of_a_node_that_died_ends_where_it_was_seen(world, other, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(typing, "SILENT_S", 1.0)
    async with world.client() as bob, other.client("alice") as alice:
        await bob.join()
        await alice.join()
        await types(bob)
        assert (await alice.next("typing"))["isTyping"] is True
        dead = world.gateway.commands.typing
        dead.fanout = dead.throttle = None  # it says nothing any more
        began = time.monotonic()
        said = await alice.next("typing")
        assert (said["userId"], said["isTyping"]) == ("bob", False)
        assert 0.5 < time.monotonic() - began < TYPING_S - 0.5
        dead._typing.clear()


async def test_without_redis_nothing_is_told_and_nothing_breaks(world):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join()
        await alice.join()
        world.bus.down = True
        await types(bob)
        await types(bob, False)
        world.bus.down = False
        assert await quiet(alice)


async def test_nothing_is_remembered_of_who_types_no_more(world, quick):
    desk = world.gateway.commands.typing
    async with world.client() as bob:
        await bob.join()
        for is_typing in (True, False, True, False):
            await types(bob, is_typing)
            while desk._works:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (desk._typing, desk._broadcast_at, desk._asked_at) == ({}, {}, {})
