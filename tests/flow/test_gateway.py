"""The gateway over loopback: real sockets, twins behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import channels
from gateway.dispatcher import to_room
from gateway.hub import Hub
from gateway.presence import PresenceDesk
from gateway.receipts import Receipts
from gateway.rooms import Rooms
from gateway.server import Gateway, start_server
from gateway.typing import TypingDesk
from runtime.auth import Verifier, issue
from runtime.memory.history import MemoryHistory
from runtime.memory.intake import MemoryConversations, MemoryIntake
from runtime.memory.log import MemoryLog
from runtime.memory.redis import MemoryBus, MemoryRegistry
from runtime.memory.tables import Tables
from schemas import frames
from schemas.messages import Message
from tests import make

SECRET = "s" * 40


@dataclass
class World:
    """A gateway node, and what is behind it."""

    gateway: Gateway
    port: int
    tables: Tables
    bus: MemoryBus
    log: MemoryLog
    sent: list[Message] = field(default_factory=list)

    async def send(self, content: str = "hi", *, sender: str = "alice", told: bool = True) -> int:
        """A message that is in the store, and, if told, on the bus."""
        [outcome] = await MemoryIntake(self.tables).accept([make.draft(content, sender=sender)])
        if told:
            await self.tell(outcome.message.seq)
        return outcome.message.seq

    async def tell(self, seq: int) -> None:
        [change] = await MemoryHistory(self.tables).changes(make.ROOM, seq - 1, seq, 1)
        await self.bus.publish([to_room(change)])

    @asynccontextmanager
    async def client(self, user: str = "bob", *, ttl: int = 60, query: str = "", **more) -> AsyncIterator[Client]:
        token = issue(SECRET, user, ttl_s=ttl)
        headers = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        async with connect(url, additional_headers=headers, compression=None, **more) as socket:
            client = Client(socket)
            assert (await client.next())["type"] == "connected"
            yield client


@dataclass
class Client:
    """A socket, seen from outside."""

    socket: ClientConnection

    async def say(self, **fields: object) -> None:
        await self.socket.send(orjson.dumps(fields).decode())

    async def next(self, *kinds: str) -> dict:
        """The next frame, or the next of these kinds."""
        async with asyncio.timeout(10):
            while True:
                said = orjson.loads(await self.socket.recv())
                if not kinds or said["type"] in kinds:
                    return said

    async def join(self, after: int | None = None) -> list[int]:
        """Join the room; the seqs that were replayed."""
        await self.say(type="join_conversation", id=make.ROOM, **({} if after is None else {"after": after}))
        replayed = []
        while (said := await self.next("new_message", "conversation_changed", "joined", "error"))["type"] != "joined":
            assert said["type"] != "error", said
            replayed.append(said["seq"])
        return replayed

    async def seqs(self, count: int) -> list[int]:
        return [(await self.next("new_message", "conversation_changed"))["seq"] for _ in range(count)]

    async def closed(self) -> int:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await self.next()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code


@pytest.fixture
async def world() -> AsyncIterator[World]:
    tables, bus, log, hub, registry = Tables(), MemoryBus(), MemoryLog(), Hub(), MemoryRegistry()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    history, subscriptions = MemoryHistory(tables), bus.subscriptions()
    rooms, receipts = Rooms(hub, history, subscriptions, heads_every_s=0.2), Receipts(log)
    gateway = Gateway(
        verify=Verifier(SECRET, "millrace", "millrace").verify,
        hub=hub,
        rooms=rooms,
        receipts=receipts,
        typing=TypingDesk(bus, registry),
        presence=PresenceDesk(bus, history, registry, 64),
        registry=registry,
        subscriptions=subscriptions,
        origins=frozenset({"https://chat.example"}),
        renew_s=10,
        clock=time.time,
    )
    works = [gateway.listen(), gateway.tick(), rooms.run(), receipts.run()]
    tasks = [asyncio.create_task(work) for work in works]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await start_server(gateway, "127.0.0.1", 0))
        yield World(gateway, server.sockets[0].getsockname()[1], tables, bus, log)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


async def test_after_beyond_the_head_is_an_error(world):
    async with world.client() as bob:
        await bob.say(type="join_conversation", id=make.ROOM, after=7)
        assert (await bob.next("error"))["code"] == "invalid"


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


async def test_a_hint_reaches_only_sockets_that_have_not_joined(world):
    async with world.client() as joined, world.client() as other:
        await joined.join(after=0)
        await world.send()
        [change] = await MemoryHistory(world.tables).changes(make.ROOM, 0, 1, 1)
        hint = channels.envelope(make.ROOM, frames.of_change(change))
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
        await world.gateway.receipts.flush()
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
        await world.gateway.receipts.flush()
    assert {(e.device, e.delivered_seq) for e in world.log.events("receipt.recorded")} == {("phone", 1), ("-", 1)}


async def test_typing_is_told_to_others_once_and_ended_by_the_server(world):
    async with world.client() as bob, world.client("alice") as alice:
        await bob.join()
        await alice.join()
        for _ in range(3):
            await bob.say(type="typing", isTyping=True)
        assert (await alice.next("typing"))["isTyping"] is True
        said = await alice.next("typing")
        assert (said["userId"], said["isTyping"]) == ("bob", False)


async def test_typing_ends_with_the_socket(world):
    async with world.client("alice") as alice:
        await alice.join()
        async with world.client() as bob:
            await bob.join()
            await bob.say(type="typing", isTyping=True)
            assert (await alice.next("typing"))["isTyping"] is True
        assert (await alice.next("typing"))["isTyping"] is False


async def test_presence_is_told_to_those_who_share_a_small_conversation(world):
    async with world.client("alice") as alice:
        await alice.join()
        async with world.client() as bob:
            said = await alice.next("presence")
            assert (said["userId"], said["online"]) == ("bob", True)
            await bob.join()
            assert (await bob.next("presence"))["userId"] == "alice"
        said = await alice.next("presence")
        assert (said["userId"], said["online"]) == ("bob", False)


async def test_a_connection_ends_when_its_token_does_unless_it_is_refreshed(world):
    async with world.client(ttl=1) as ends, world.client(ttl=1) as goes_on:
        await goes_on.say(type="auth.refresh", token=issue(SECRET, "bob", ttl_s=60), ref=1)
        assert (await goes_on.next())["type"] == "auth.refreshed"
        assert await ends.closed() == 4401
        await goes_on.say(type="auth.refresh", token=issue(SECRET, "eve", ttl_s=60))
        assert (await goes_on.next())["code"] == "unauthenticated"


@pytest.mark.parametrize("how", ["header", "query", "subprotocol"])
async def test_a_token_comes_in_three_ways(world, how):
    token, url = issue(SECRET, "bob", ttl_s=60), f"ws://127.0.0.1:{world.port}/ws"
    more: dict = {}
    if how == "header":
        more["additional_headers"] = {"Authorization": f"Bearer {token}"}
    elif how == "query":
        url += f"?token={token}"
    else:
        more["subprotocols"] = ["millrace.v1", f"bearer.{token}"]
    async with connect(url, **more) as socket:
        assert orjson.loads(await socket.recv())["userId"] == "bob"
        assert socket.subprotocol == ("millrace.v1" if how == "subprotocol" else None)


async def test_without_a_token_the_error_says_what_to_do_and_the_code_is_4401(world):
    async with connect(f"ws://127.0.0.1:{world.port}/ws") as socket:
        client = Client(socket)
        assert (await client.next())["code"] == "unauthenticated"
        assert await client.closed() == 4401


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("/other", None, 404),
        ("/ws", "https://evil.example", 403),
        ("/ws?device=a%20b", None, 422),
        ("/ws?device=", None, 422),
    ],
)
async def test_what_is_no_socket_of_ours_is_refused_by_http(world, path, origin, status):
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{world.port}{path}", origin=origin)
    assert caught.value.response.status_code == status
    assert orjson.loads(caught.value.response.body)["status"] == status


async def test_a_page_of_the_list_may_connect(world):
    async with world.client(origin="https://chat.example"):
        pass


async def test_bad_frames_are_errors_and_too_many_of_them_the_end(world):
    async with world.client() as bob:
        await bob.socket.send("garbage")
        assert (await bob.next())["code"] == "invalid"
        for _ in range(12):
            await bob.socket.send("garbage")
        assert await bob.closed() == 4400


async def test_a_frame_that_is_too_large_ends_the_connection(world):
    async with world.client() as bob:
        await bob.socket.send("x" * 70_000)
        assert await bob.closed() == 1009


async def test_draining_sends_everybody_away_in_time(world):
    async with world.client() as bob, world.client("carol", max_queue=1):
        draining = asyncio.create_task(world.gateway.drain())
        said = await bob.next("reconnect")
        assert 0 <= said["afterMs"] <= 2000
        assert await bob.closed() == 1012
        async with asyncio.timeout(10):
            await draining
    with pytest.raises(InvalidStatus):
        await connect(f"ws://127.0.0.1:{world.port}/ws")
