"""Sockets that read slowly, or not at all: what waits for them is bounded, nothing is lost, nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from adapters.memory.intake import MemoryConversations
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.limits import Limits
from gateway.replay_budget import TURNS
from gateway.send_queue import CONTENT_MAX, EPHEMERAL_MAX, HARD_MAX
from schemas.frames import StatusUpdated, TypingUpdated, encoded
from tests import make

from . import raw
from .conftest import World, open_world
from .raw import Raw, until

FAT = "\N{WATER WAVE}" * 4000
"""16 kB, the largest message there is."""
MANY = Limits(connections_per_user=0, connects_per_s_user=0, connections_per_address=0, connects_per_s_address=0)


@asynccontextmanager
async def deaf(world: World, user: str = "bob", *, after: int | None = None) -> AsyncIterator[Raw]:
    """A socket that has asked for the room, and reads nothing but what it is told to."""
    async with raw.open_raw(world.port, user, receive=4096) as client:
        client.say(type="join_conversation", id=make.ROOM, **({} if after is None else {"after": after}))
        if after is None:
            await client.next("joined")
        yield client


async def fill(world: World, waiting: int = CONTENT_MAX) -> None:
    """Messages until so much waits for each socket, beyond what the kernel takes."""
    while min(c.queue.waiting for c in world.gateway.connections.values()) < waiting:
        await world.send(FAT)
        await asyncio.sleep(0)


def wires(world: World) -> list[int]:
    return [connection.queue.waiting for connection in world.gateway.connections.values()]


def status(seq: int, user: str = "carol") -> bytes:
    frame = StatusUpdated(
        conversation_id=make.ROOM,
        user_id=user,
        seq=seq,
        status="delivered",
        delivered_seq=seq,
        read_seq=0,
        at=make.AT,
    )
    return Envelope(Kind.STATUS, seq, f"{make.ROOM}/{user}", encoded(frame)).packed()


async def test_what_waits_is_bounded_and_comes_when_it_is_read(world):
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(deaf(world)) for _ in range(5)]
        await fill(world)
        for _ in range(200):
            await world.send(FAT)
        await asyncio.sleep(0)
        assert max(wires(world)) < HARD_MAX
        head = len(world.tables.changes[make.ROOM])
        for client in clients:
            assert [(await client.next("new_message"))["seq"] for _ in range(head)] == list(range(1, head + 1))
        await world.send("live again")
        for client in clients:
            assert (await client.next("new_message"))["seq"] == head + 1


async def test_of_watermarks_the_last_one_comes_and_typing_does_not(world):
    async with deaf(world) as slow:
        await fill(world, EPHEMERAL_MAX + 1)
        frame = TypingUpdated(conversation_id=make.ROOM, user_id="carol", is_typing=True)
        typing = Envelope(Kind.TYPING_STARTED, 0, "carol", encoded(frame)).packed()
        await world.bus.publish([(channels.events(make.ROOM), typing)])
        await fill(world)
        for seq in range(1, 500):
            await world.bus.publish([(channels.user_messages("bob"), status(seq, f"user-{seq % 3}"))])
        await until(lambda: world.bus.nodes[0].queue.empty())
        seen: dict[str, list[int]] = {}
        while len(seen) < 3:
            said = await slow.next("message_status", "typing")
            assert said["type"] != "typing"
            seen.setdefault(said["userId"], []).append(said["deliveredSeq"])
        assert seen == {"user-0": [498], "user-1": [499], "user-2": [497]}


async def test_more_stalled_readers_than_replay_slots_hold_up_nobody():
    async with open_world(limits=MANY) as world, AsyncExitStack() as stack:
        for _ in range(400):
            await world.send(FAT)
        for _ in range(TURNS + 8):
            await stack.enter_async_context(deaf(world, after=0))
        await until(lambda: min(wires(world)) > CONTENT_MAX // 2)
        async with world.client("carol") as carol:
            assert len(await carol.join(after=0)) == 400
        assert max(wires(world)) < HARD_MAX


async def test_a_reader_that_moves_but_never_arrives_is_closed():
    async with open_world(limits=Limits(slow_client_timeout_s=0.5)) as world, deaf(world) as slow:
        await fill(world)
        [connection] = world.gateway.connections.values()
        async with asyncio.timeout(10):
            while connection.queue.open:
                await slow.reader.read(1)
                await asyncio.sleep(0.01)


async def test_a_reader_that_is_closed_for_being_slow_is_told_why_if_it_reads_then():
    async with open_world(limits=Limits(slow_client_timeout_s=0.5)) as world, deaf(world) as slow:
        await fill(world)
        await until(lambda: not all(c.queue.open for c in world.gateway.connections.values()))
        assert await slow.closed() == 4408


async def test_a_socket_that_lags_in_many_rooms_costs_one_task_and_gets_everything(world):
    each_gets = 4
    rooms = [f"01900000-0000-7000-8000-{n:012}" for n in range(1000, 1200)]
    conversations = MemoryConversations(world.tables)
    for room in rooms:
        await conversations.create(room, None, "alice", ["bob"])
    async with raw.open_raw(world.port, receive=4096) as slow:
        for room in rooms[:-1]:
            slow.say(type="join_conversation", id=room)
        slow.say(type="join_conversation", id=make.ROOM)
        for _ in rooms:
            await slow.next("joined")
        before = len(world.gateway.rooms._tasks)
        for _ in range(each_gets):
            for room in rooms:
                await world.send_to(room, FAT)
            await asyncio.sleep(0)
        await until(lambda: world.bus.nodes[0].queue.empty())
        assert wires(world)[0] < HARD_MAX
        assert len(world.gateway.rooms._tasks) <= before + 1
        seen: dict[str, list[int]] = {room: [] for room in rooms[:-1]}
        while any(len(seqs) < each_gets for seqs in seen.values()):
            said = await slow.next("new_message")
            if said["conversationId"] in seen:
                seen[said["conversationId"]].append(said["seq"])
        assert all(seqs == list(range(1, each_gets + 1)) for seqs in seen.values())


@pytest.mark.slow
async def test_a_user_with_a_thousand_sockets_is_served_at_each():
    async with open_world(limits=MANY) as world, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw.open_raw(world.port)) for _ in range(1000)]
        for client in clients:
            client.say(type="join_conversation", id=make.ROOM)
        for client in clients:
            await client.next("joined")
        await world.bus.publish([(channels.user_messages("bob"), status(seq)) for seq in range(1, 21)])
        for _ in range(20):
            await world.send()
        for client in clients:
            said = [await client.next("new_message", "message_status") for _ in range(40)]
            assert [each["seq"] for each in said if each["type"] == "new_message"] == list(range(1, 21))
            assert [each["seq"] for each in said if each["type"] == "message_status"] == list(range(1, 21))
