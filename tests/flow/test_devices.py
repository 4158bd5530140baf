"""Several devices and several nodes: one subscription for all, and what one device does the others learn."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from adapters.memory.effects import MemoryStatuses
from adapters.memory.facts import MemoryFacts
from adapters.memory.history import MemoryHistory
from domain.watermarks import Watermark
from gateway import channels
from gateway.channels import Envelope, Kind
from gateway.confirmation import fact_of, wanted_by
from gateway.publications import publications_of, room_envelope, to_room, to_users
from schemas import frames
from schemas.events import ReceiptRecorded
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.retry import RetryPolicy
from streams.stages import status
from tests import make

from .conftest import Client, World


async def publish(world: World, seq: int) -> None:
    """As the dispatcher does it, whichever node it is on."""
    [change] = await MemoryHistory(world.tables).changes(make.ROOM, seq - 1, seq, 1)
    hint = Envelope(Kind.MESSAGE, change.seq, make.ROOM, frames.of_change(change))
    hints = to_users(hint, ["alice", "bob", "carol"])
    await world.bus.publish([to_room(make.ROOM, room_envelope(change)), *hints])


async def fold(world: World) -> None:
    """The status stage, and what the dispatcher makes of it."""
    receipts = [one for one in world.log.records if one.topic == ReceiptRecorded.TOPIC]
    batch = [ConsumerRecord(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(receipts)]
    await process(status.create(MemoryStatuses(world.tables)), batch, world.log, RetryPolicy(), make.done)
    await dispatch(world)


async def dispatch(world: World) -> None:
    """Everything in ``message.status``, as a gateway does whose group begins anew."""
    events = world.log.events("message.status")
    found = await MemoryFacts(world.tables).find(wanted_by(events))
    facts = [fact for event in events if (fact := fact_of(event, found)) is not None]
    await world.bus.publish([one for fact in facts for one in publications_of(fact).certain])


async def test_what_one_device_sends_the_users_other_devices_get_on_any_node(world, other):
    async with AsyncExitStack() as stack:
        there, here, elsewhere = [
            await stack.enter_async_context(node.client("alice", query=f"?device={name}"))
            for node, name in ((world, "phone"), (other, "laptop"), (other, "tablet"))
        ]
        await there.join()
        await here.join()
        await publish(world, await world.send(told=False))
        for device in (there, here, elsewhere):
            said = await device.next("new_message")
            assert (said["seq"], said["message"]["senderId"]) == (1, "alice")


@pytest.mark.parametrize("what", ["read", "ack"])
async def test_what_one_device_reads_the_users_other_devices_and_the_sender_learn(world, other, what):
    async with (
        world.client(query="?device=phone") as phone,
        other.client(query="?device=laptop") as laptop,
        other.client("alice") as alice,
        world.client("carol") as carol,
    ):
        for client in (phone, laptop, alice, carol):
            await client.join(after=0)
        await publish(world, await world.send(told=False))
        await phone.seqs(1)
        await phone.say(type=what, conversationId=make.ROOM, seq=1)
        await phone.say(type="ping")
        await phone.next("pong")
        await world.gateway.commands.receipts.flush()
        await fold(world)
        for client in (laptop, alice, phone):
            said = await client.next("message_status")
            assert (said["userId"], said["deliveredSeq"], said["readSeq"]) == ("bob", 1, int(what == "read"))
        # One device of one recipient is enough.
        assert world.tables.changes[make.ROOM][0].message is not None
        [message] = world.tables.messages.values()
        assert message.status == ("read" if what == "read" else "delivered")
        await carol.say(type="ping")
        assert (await carol.next("message_status", "pong"))["type"] == "pong"


ROOM = {channels.messages(make.ROOM), channels.events(make.ROOM)}
OWN = {"node:one", channels.REVOCATIONS}
BOB = {channels.user_messages("bob"), channels.user_notifications("bob")}
SLOW_S = 0.05


async def until_subscribed(world: World, wanted: set[str]) -> None:
    """Until the node is subscribed to just these, and stays so while everything under way comes to its end."""
    [node] = world.bus.nodes
    still = 0
    async with asyncio.timeout(5):
        while still < 10:
            still = still + 1 if node.channels - OWN == wanted else 0
            await asyncio.sleep(SLOW_S / 2)


async def test_sockets_of_a_node_share_one_subscription(world):
    async with world.client() as one, world.client() as two:
        await one.join()
        await two.join()
        await until_subscribed(world, BOB | ROOM)
        await one.socket.close()
        await until_subscribed(world, BOB | ROOM)
        await world.send()
        assert await two.seqs(1) == [1]
    await until_subscribed(world, set())


async def test_who_comes_while_the_last_one_goes_is_subscribed(world):
    world.bus.slow_s = SLOW_S
    async with world.client() as last:
        await last.join()
    async with asyncio.timeout(5):
        while world.gateway.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)
    async with world.client() as next_one:  # while the channels of the last one are being given up
        assert await next_one.join() == []
        await until_subscribed(world, BOB | ROOM)
    await until_subscribed(world, set())


async def test_who_joins_while_the_last_one_leaves_is_subscribed(world):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join()
        world.bus.slow_s = SLOW_S
        await bob.say(type="leave_conversation", id=make.ROOM)
        async with asyncio.timeout(5):
            while channels.messages(make.ROOM) in world.bus.nodes[0].channels:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await alice.join()
        await until_subscribed(world, BOB | ROOM | {c.replace("bob", "alice") for c in BOB})


async def test_who_leaves_before_he_has_joined_leaves_nothing(world, monkeypatch: pytest.MonkeyPatch):
    membership = MemoryHistory.membership

    async def slowly(self: MemoryHistory, conversation_id: str, user_id: str) -> int | None:
        await asyncio.sleep(SLOW_S)
        return await membership(self, conversation_id, user_id)

    monkeypatch.setattr(MemoryHistory, "membership", slowly)
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM)
        await bob.say(type="leave_conversation", id=make.ROOM)
        await bob.next("left")
        await until_subscribed(world, BOB)


async def test_the_first_socket_of_a_user_may_end_at_once(world):
    world.bus.slow_s = SLOW_S
    async with world.client() as first:
        first.socket.transport.abort()
        async with world.client():
            await until_subscribed(world, BOB)
    await until_subscribed(world, set())


async def test_whoever_comes_and_goes_what_is_left_is_subscribed_and_nothing_else(world):
    world.bus.slow_s = 0.002

    async def come_and_go(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(6):
            async with world.client() as bob:
                for _ in range(rng.randrange(3)):
                    await bob.say(type="join_conversation", id=make.ROOM)
                    if rng.random() < 0.5:
                        await bob.next("joined", "error")
                    await bob.say(type="leave_conversation", id=make.ROOM)
                if rng.random() < 0.5:
                    await bob.say(type="join_conversation", id=make.ROOM)
                await asyncio.sleep(rng.choice((0, 0, 0.002)))

    going = asyncio.gather(*(come_and_go(seed) for seed in range(6)))
    await asyncio.sleep(0.05)
    async with world.client() as staying:
        await staying.join()
        await going
        await until_subscribed(world, BOB | ROOM)
        await world.send()
        assert await staying.seqs(1) == [1]
    await until_subscribed(world, set())


# watermarks on the wire


async def frames_until_pong(client: Client, kind: str) -> list[dict]:
    """All frames of a kind that were sent so far."""
    await client.say(type="ping")
    found = []
    while (frame := await client.next())["type"] != "pong":
        found += [frame] if frame["type"] == kind else []
    return found


async def acknowledged(world: World, phone: Client, seq: int, *, read: bool) -> None:
    """The device says so, and the pipeline has done with it."""
    await phone.say(type="read" if read else "ack", conversationId=make.ROOM, seq=seq)
    await phone.say(type="ping")
    await phone.next("pong")
    await world.gateway.commands.receipts.flush()
    await fold(world)


async def test_a_group_that_begins_anew_takes_no_watermark_back(world, other):
    async with world.client(query="?device=phone") as phone, other.client("alice") as alice:
        await phone.join(after=0)
        await alice.join(after=0)
        for seq in (1, 2):
            await publish(world, await world.send(told=False))
            await phone.seqs(1)
            await acknowledged(world, phone, seq, read=seq % 2 == 0)
        before = await frames_until_pong(alice, "message_status")
        await dispatch(world)
        again = await frames_until_pong(alice, "message_status")
        assert again
        seen = [(frame["deliveredSeq"], frame["readSeq"]) for frame in (*before, *again)]
        assert all(first <= second for pair in pairwise(seen) for first, second in zip(*pair, strict=True)), seen
        assert set(seen[len(before) :]) == {(2, 2)}


async def test_what_a_frozen_dispatcher_publishes_late_is_dropped(world, other):
    async with world.client(query="?device=phone") as phone, other.client("alice") as alice:
        await phone.join(after=0)
        await alice.join(after=0)
        late: list[tuple[str, bytes]] = []
        for seq in (1, 2):
            await publish(world, await world.send(told=False))
            await phone.seqs(1)
            await acknowledged(world, phone, seq, read=False)
            if seq == 1:
                events = world.log.events("message.status")
                found = await MemoryFacts(world.tables).find(wanted_by(events))
                late = [
                    one for event in events if (fact := fact_of(event, found)) for one in publications_of(fact).certain
                ]
        await frames_until_pong(alice, "message_status")
        assert late
        await world.bus.publish(late)
        assert await frames_until_pong(alice, "message_status") == []


# receipts that died with their node


async def test_a_join_says_what_is_stored_for_the_device_and_without_a_name_for_the_member(world, other):
    for _ in range(3):
        await world.send()
    marks = {"phone": (3, 1), "laptop": (2, 2)}
    statuses = MemoryStatuses(world.tables)
    await statuses.advance([Watermark(make.ROOM, "bob", *seqs, device) for device, seqs in marks.items()], 32)
    for query, stored in (("?device=phone", (3, 1)), ("?device=laptop", (2, 2)), ("?device=new", (0, 0)), ("", (3, 2))):
        async with other.client(query=query) as client:
            await client.say(type="join_conversation", id=make.ROOM, after=0)
            joined = await client.next("joined")
            assert (joined["seq"], joined["deliveredSeq"], joined["readSeq"]) == (3, *stored)
