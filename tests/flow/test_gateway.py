"""RoomSync and what is told in them, over a gateway on loopback."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection

from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations
from adapters.memory.redis import MemoryRegistry
from gateway import channels
from gateway.channels import Envelope, Kind
from schemas import frames
from tests import make


async def test_a_join_replays_what_was_and_goes_on_with_what_comes(world):
    for _ in range(450):  # more than two pages
        await world.send()
    async with world.client() as bob:
        assert await bob.join(after=3) == list(range(4, 451))
        await world.send()
        assert await bob.seqs(1) == [451]


async def test_without_after_only_what_comes_from_now_on(world):
    await world.send()
    async with world.client() as bob:
        assert await bob.join() == []
        await world.send()
        assert await bob.seqs(1) == [2]


async def test_messages_during_a_replay_are_neither_lost_nor_doubled(world):
    for _ in range(600):
        await world.send()

    async def more() -> None:
        for _ in range(300):
            await world.send()
            await asyncio.sleep(0)

    async with world.client() as bob:
        sending = asyncio.create_task(more())
        replayed = await bob.join(after=0)
        await sending
        assert replayed + await bob.seqs(900 - len(replayed)) == list(range(1, 901))


async def test_lost_hints_are_healed_by_comparing_heads(world):
    async with world.client() as bob:
        await bob.join(after=0)
        await world.send()
        await world.send(told=False)
        await world.send()  # a hole in the middle
        await world.send(told=False)  # and the last one
        assert await bob.seqs(4) == [1, 2, 3, 4]


async def test_hints_in_the_wrong_order_and_twice_are_put_right(world):
    async with world.client() as bob:
        await bob.join(after=0)
        seqs = [await world.send(told=False) for _ in range(4)]
        for seq in (seqs[1], seqs[0], seqs[0], seqs[3], seqs[1], seqs[2]):
            await world.tell(seq)
        assert await bob.seqs(4) == [1, 2, 3, 4]


async def test_delivery_goes_on_without_redis(world):
    world.bus.down = True
    async with world.client() as bob:
        assert await bob.join(after=0) == []
        await world.send(told=False)
        assert await bob.seqs(1) == [1]


async def test_a_second_join_with_after_resends_what_is_asked_for(world):
    for _ in range(3):
        await world.send()
    async with world.client() as bob:
        assert await bob.join(after=0) == [1, 2, 3]
        assert await bob.join(after=1) == [2, 3]
        await world.send()
        assert await bob.seqs(1) == [4]


async def test_a_slow_reader_falls_behind_and_is_caught_up(world):
    async with world.client(max_queue=1) as slow, world.client("carol") as quick:
        await slow.join(after=0)
        await quick.join(after=0)
        total = 1500
        drained = asyncio.create_task(quick.seqs(total))
        for _ in range(total):
            await world.send("x" * 3500)  # 5 MB: more than sockets and queues hold
            await asyncio.sleep(0)
        assert await drained == list(range(1, total + 1))
        assert await slow.seqs(total) == list(range(1, total + 1))


async def test_nobody_joins_what_he_is_no_member_of(world):
    async with world.client("eve") as eve:
        await eve.say(type="join_conversation", id=make.ROOM, ref="r")
        said = await eve.next()
        assert (said["type"], said["code"], said["ref"]) == ("error", "not_found", "r")


async def test_who_is_removed_sees_that_and_nothing_more(world):
    async with world.client("carol") as carol, world.client() as bob:
        await carol.join(after=0)
        await bob.join(after=0)
        await MemoryConversations(world.tables).remove(make.ROOM, "carol", by="alice")
        await world.tell(1)
        await world.send()
        assert await bob.seqs(2) == [1, 2]
        said = await carol.next("conversation_changed")
        assert (said["change"], said["userId"]) == ("member_removed", "carol")
        await carol.say(type="ping")
        assert (await carol.next("new_message", "pong"))["type"] == "pong"
        await carol.say(type="ack", conversationId=make.ROOM, seq=1)
        assert (await carol.next("error"))["code"] == "not_found"


async def test_who_was_removed_and_is_back_stays_also_where_word_of_it_comes_late(world):
    conversations = MemoryConversations(world.tables)
    async with world.client() as bob, world.client("carol") as carol:
        await bob.join(after=0)
        await conversations.remove(make.ROOM, "carol", by="alice")
        await conversations.add(make.ROOM, "carol", by="alice")
        await carol.join()
        for seq in (1, 2):
            await world.tell(seq)
        assert await bob.seqs(2) == [1, 2]
        assert await world.send() == 3
        assert (await carol.next("new_message", "left"))["type"] == "new_message"


async def test_a_hint_reaches_only_sockets_that_have_not_joined(world):
    async with world.client() as joined, world.client() as other:
        await joined.join(after=0)
        await world.send()
        [change] = await MemoryHistory(world.tables).changes(make.ROOM, 0, 1, 1)
        hint = Envelope(Kind.MESSAGE, 1, make.ROOM, frames.of_change(change)).packed()
        await world.bus.publish([(channels.user_messages("bob"), hint)])
        assert (await other.next("new_message"))["seq"] == 1
        assert await joined.seqs(1) == [1]
        await joined.say(type="ping")
        assert (await joined.next("new_message", "pong"))["type"] == "pong"


async def test_receipts_are_merged_and_bounded_by_what_was_sent(world):
    async with world.client() as bob:
        await bob.join(after=0)
        for _ in range(3):
            await world.send()
        await bob.seqs(3)
        await bob.say(type="ack", conversationId=make.ROOM, seq=9)
        assert (await bob.next("error"))["code"] == "invalid"
        for seq in (1, 2, 3):
            await bob.say(type="ack", conversationId=make.ROOM, seq=seq)
        await bob.say(type="read", messageId=world.tables.changes[make.ROOM][1].message.message_id)
        await bob.say(type="ping")
        await bob.next("pong")
        await world.gateway.commands.receipts.flush()
        events = world.log.events("receipt.recorded")
        assert (events[-1].user_id, max(e.delivered_seq for e in events), events[-1].read_seq) == ("bob", 3, 2)
        assert len(events) <= 2


async def test_receipts_name_their_device(world):
    async with world.client(query="?device=phone") as phone, world.client() as other:
        for client in (phone, other):
            await client.join(after=0)
        await world.send()
        for client in (phone, other):
            await client.seqs(1)
            await client.say(type="ack", conversationId=make.ROOM, seq=1)
            await client.say(type="ping")
            await client.next("pong")
        await world.gateway.commands.receipts.flush()
    assert {(e.device, e.delivered_seq) for e in world.log.events("receipt.recorded")} == {("phone", 1), ("-", 1)}


async def test_a_receipt_by_message_is_for_its_own_conversation_where_it_is_joined(world):
    other = "01900000-0000-7000-8000-000000000002"
    await MemoryConversations(world.tables).create(other, None, "alice", ["bob"])
    await world.send_to(other)
    [foreign] = [m.message_id for m in world.tables.messages.values()]
    async with world.client() as bob:
        await bob.join()
        for fields in ({"messageId": foreign}, {"messageId": foreign, "conversationId": make.ROOM}):
            await bob.say(type="ack", **fields)
            assert (await bob.next("error"))["code"] == "not_found"
        await bob.say(type="join_conversation", id=other, after=0)
        await bob.next("joined")
        await bob.say(type="ack", messageId=foreign)
        await bob.say(type="ping")
        await bob.next("pong")
        await world.gateway.commands.receipts.flush()
    assert [(e.conversation_id, e.delivered_seq) for e in world.log.events("receipt.recorded")] == [(other, 1)]


async def test_connected_is_the_first_frame_also_while_redis_takes_its_time(world, monkeypatch):
    await world.send(told=False)
    [change] = await MemoryHistory(world.tables).changes(make.ROOM, 0, 1, 1)
    hint = Envelope(Kind.MESSAGE, 1, make.ROOM, frames.of_change(change)).packed()
    register = MemoryRegistry.register

    async def slowly(self, entry):
        await world.bus.publish([(channels.user_messages("bob"), hint)])
        for _ in range(50):
            await asyncio.sleep(0)
        return await register(self, entry)

    async with world.client() as first:
        await first.say(type="ping")
        await first.next("pong")
        monkeypatch.setattr(MemoryRegistry, "register", slowly)
        async with world.client() as second:  # which looks at the first frame
            assert (await second.next())["type"] == "new_message"


async def test_what_is_no_message_of_ours_on_our_channels_is_passed_over(world):
    async with world.client() as bob:
        await bob.join()
        for garbage in (b"hello", b"", b"\xff\xfe x", b"1", b"{}", b"typing_started 0 \xff {}", b"presence x - {}"):
            await world.bus.publish([(channel, garbage) for channel in CHANNELS])
        await world.send()
        assert await bob.seqs(1) == [1]
    assert not any(task.done() for task in world.tasks)


async def test_envelopes_with_anything_in_them_end_no_node(world):
    async def read_all(socket: ClientConnection) -> None:
        async for _ in socket:  # forged frames too, which cannot be told from others
            pass

    async with world.client() as bob:
        await bob.join()
        reading = asyncio.create_task(read_all(bob.socket))
        for envelope in envelopes():
            await world.bus.publish([(channel, envelope) for channel in CHANNELS])
        async with world.client("alice") as alice:
            await alice.join()
            await world.send()
            assert await alice.seqs(1) == [1]
    await reading
    assert not any(task.done() for task in world.tasks)


CHANNELS = (
    channels.messages(make.ROOM),
    channels.events(make.ROOM),
    channels.user_messages("bob"),
    channels.user_notifications("bob"),
    "node:n1",
    "conversation",
    "of:another:kind",
)


def envelopes() -> list[bytes]:
    """Well-formed envelopes of every kind, whose fields and frames say nothing that is true."""
    abouts, frames = ("", "alice", f"{make.ROOM}/bob"), (b"{}", b'{"type":1}', b'{"userId":[]}')
    kinds = [kind for kind in (*channels.Kind, "of_tomorrow", "") if kind != channels.Kind.MEMBER_REMOVED]
    return [
        channels.Envelope(kind, seq, about, frame).packed()
        for kind in kinds
        for seq in (-1, 2**63)
        for about in abouts
        for frame in frames
    ]
