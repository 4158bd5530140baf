"""Frames and publications that are meant to hurt others, on a real socket."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import orjson
import pytest

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations
from domain.changes import Entry
from gateway.channels import Envelope
from gateway.limits import Limits
from gateway.publications import room_envelope, to_room
from runtime.metrics import CLAIMS_DENIED
from schemas.frames import new_message
from schemas.messages import Change
from tests import make

from . import raw
from .conftest import World, open_world
from .raw import TEXT, frame, until

NONSENSE = ["\x1b[31mRED\x1b[0m", "x' OR 1=1", "a\0b", "conversation:*", "[bold red]", "L" * 60_000, ""]
UNKNOWN = "01900000-0000-7000-8000-00000000dead"


@pytest.mark.parametrize("id_", [*NONSENSE, UNKNOWN], ids=lambda id_: repr(id_[:20]))
async def test_an_ack_beside_its_join_in_one_write_records_nothing(world, id_):
    async with raw.open_raw(world.port) as client:
        commands = [
            {"type": "join_conversation", "id": id_, "ref": 1},
            {"type": "ack", "conversationId": id_, "seq": 1, "ref": 2},
            {"type": "read", "conversationId": id_, "seq": 0, "ref": 3},
            {"type": "typing", "conversationId": id_, "isTyping": True, "ref": 4},
            {"type": "ping", "ref": 5},
        ]
        client.send(b"".join(frame(TEXT, orjson.dumps(command)) for command in commands))
        answers = [await client.next() for _ in commands]
        assert {answer["ref"]: answer["type"] for answer in answers} == {
            **dict.fromkeys((1, 2, 3, 4), "error"),
            5: "pong",
        }
        assert {answer.get("code") for answer in answers} <= {"invalid", "not_found", None}
        assert max(len(orjson.dumps(answer)) for answer in answers) < 400
    assert world.parts.receipts._buffer.waiting == {}
    assert world.log.records == []
    assert world.gateway.hub.rooms == {}


async def test_a_receipt_counts_once_membership_is_confirmed(world):
    seq = await world.send()
    async with raw.open_raw(world.port) as client:
        client.send(
            frame(TEXT, orjson.dumps({"type": "join_conversation", "id": make.ROOM, "after": 0}))
            + frame(TEXT, orjson.dumps({"type": "ack", "conversationId": make.ROOM, "seq": seq}))
        )
        assert (await client.next("error"))["code"] == "not_found"
        await client.next("joined")
        client.say(type="ack", conversationId=make.ROOM, seq=seq)
        await until(lambda: len(world.log.records) == 1)


async def test_a_join_of_what_is_being_replayed_continues_the_replay():
    async with open_world(limits=Limits(replay_bytes_per_s=200_000, replay_burst_bytes=1)) as world:
        for _ in range(600):
            await world.send("x" * 100)
        async with world.client() as client:
            await client.say(type="join_conversation", id=make.ROOM, after=0, ref=0)
            seqs = await client.seqs(1)
            for ref in (1, 2):
                await client.say(type="join_conversation", id=make.ROOM, after=0, ref=ref)
            refs = []
            while len(refs) < 3:
                said = await client.next("new_message", "joined", "error")
                if said["type"] == "new_message":
                    seqs.append(said["seq"])
                else:
                    assert said["type"] == "joined"
                    refs.append(said["ref"])
            assert (seqs, refs) == (list(range(1, 601)), [0, 1, 2])


async def test_joins_that_wait_for_one_replay_are_bounded():
    async with open_world(limits=Limits(replay_bytes_per_s=1, replay_burst_bytes=1)) as world:
        for _ in range(400):
            await world.send()
        async with world.client() as client:
            for _ in range(20):
                await client.say(type="join_conversation", id=make.ROOM, after=0)
            said = await client.next("error")
            assert (said["code"], said["retryAfterMs"]) == ("rate_limited", 1000)
            await client.say(type="join_conversation", id=make.ROOM)  # asks for less than what is replayed
            assert (await client.next("joined"))["seq"] == 400


async def test_a_replay_over_budget_waits_and_neither_loses_nor_holds_up_anybody():
    budget = Limits(replay_bytes_per_s=300_000, replay_burst_bytes=100_000)
    async with open_world(limits=budget) as world, AsyncExitStack() as stack:
        for _ in range(400):
            await world.send("x" * 1000)
        greedy = [await stack.enter_async_context(world.client("bob")) for _ in range(4)]
        started = time.monotonic()
        replays = [asyncio.create_task(client.join(after=0)) for client in greedy]
        async with world.client("carol") as carol:
            assert len(await carol.join(after=0)) == 400
            seq = await world.send("live")
            assert (await carol.next("new_message"))["seq"] == seq
        assert not any(replay.done() for replay in replays)
        for replay in replays:
            assert [seq for seq in await replay if seq <= 400] == list(range(1, 401))
        size = 400 * 1000 * len(greedy)
        assert time.monotonic() - started > (size - 100_000 - 4 * 200 * 1500) / 300_000


def forged(seq: int, content: str = "I NEVER SAID THIS") -> tuple[str, bytes]:
    payload = new_message(make.message(seq=seq, content=content, status="sent"))
    return to_room(make.ROOM, Envelope("message", seq, "-", payload))


async def test_a_claim_beyond_the_head_of_the_store_costs_one_look_and_hides_nothing(world):
    async with world.client() as client:
        await client.join()
        asked: list[int] = []
        heads = MemoryHistory.heads

        async def counted(self, ids):
            asked.append(len(ids))
            return await heads(self, ids)

        before = CLAIMS_DENIED._value.get()
        await world.bus.publish([forged(10**15), forged(7)])
        room = world.gateway.hub.rooms[make.ROOM]
        await until(lambda: CLAIMS_DENIED._value.get() > before)
        await until(lambda: room.buffer.head == 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryHistory, "heads", counted)
            await asyncio.sleep(1)  # the time in which 20 looks for a gap would come
        assert len(asked) <= 8  # one comparison in 0.2 s, and no more
        assert [await world.send() for _ in range(3)] == await client.seqs(3)


@pytest.mark.parametrize("told", [True, False], ids=["told", "found"])
@pytest.mark.parametrize("late", [True, False], ids=["after a comparison", "at once"])
async def test_a_forged_frame_for_the_next_seq_does_not_hide_the_true_one(world, told, late):
    async with world.client() as client:
        await client.join()
        await world.bus.publish([forged(1)])
        assert (await client.next("new_message"))["message"]["content"] == "I NEVER SAID THIS"
        room = world.gateway.hub.rooms[make.ROOM]
        if late or not told:
            await until(lambda: room.buffer.cursor == 0)
        assert await world.send("the truth", told=told) == 1
        said = await client.next("new_message")
        assert (said["seq"], said["message"]["content"]) == (1, "the truth")
        assert await world.send("more") == 2
        assert await client.seqs(1) == [2]


async def test_a_join_beyond_a_forged_frame_waits_for_nothing(world):
    async with world.client() as client, world.client("carol") as carol:
        await world.send()
        await client.join()
        await world.bus.publish([forged(2), forged(3)])
        await client.seqs(2)
        assert await carol.join(after=0) == [1]
        assert await world.send("the truth") == 2
        assert (await carol.next("new_message"))["message"]["content"] == "the truth"


async def test_an_entry_of_a_kind_of_a_later_release_passes_live_and_replayed(world):
    async def append(world: World) -> None:
        seq = world.tables.conversations[make.ROOM].last_seq + 1
        change = Change(conversation_id=make.ROOM, seq=seq, kind="title_changed", data={"title": "new"})
        world.tables.append(Entry(change, None))
        await world.bus.publish([to_room(make.ROOM, room_envelope(change))])

    async with raw.open_raw(world.port) as live, raw.open_raw(world.port) as late:
        live.say(type="join_conversation", id=make.ROOM)
        await live.next("joined")
        await append(world)
        await world.send()
        late.say(type="join_conversation", id=make.ROOM, after=0)
        for client in (live, late):
            said = [await client.next("conversation_changed", "new_message") for _ in range(2)]
            assert [(each["type"], each["seq"]) for each in said] == [("conversation_changed", 1), ("new_message", 2)]
            assert (said[0]["change"], said[0]["title"]) == ("title_changed", "new")


async def test_one_connection_too_many_of_a_user_is_told_so():
    few = Limits(connections_per_user=1)
    async with open_world(limits=few) as world, world.client(), raw.open_tcp(world.port) as client:
        client.send(raw.request(world.port))
        await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.next())["code"] == "rate_limited"
        opcode, payload = await client.frame()
        assert (opcode, payload[2:]) == (raw.CLOSE, b"too many connections")


async def test_many_members_of_many_rooms_join_at_once_after_a_restart(world):
    rooms = [f"01900000-0000-7000-8000-{number:012}" for number in range(1000, 1200)]
    conversations = MemoryConversations(world.tables)
    for room in rooms:
        await conversations.create(room, None, "alice", ["bob"])
    async with world.client() as client:
        for room in rooms:
            await client.say(type="join_conversation", id=room, after=0)
        assert {(await client.next("joined", "error"))["id"] for _ in rooms} == set(rooms)
