"""The connection of the client library: tokens, refusals, drains, errors and restarts."""

from __future__ import annotations

import asyncio
import logging
import time

import orjson
import pytest
from millrace_client import (
    Listener,
    LiveConnection,
    MemoryCursors,
    NewMessage,
    ProtocolError,
    Refused,
    Unauthenticated,
)
from millrace_client.frames import ErrorFrame, Reconnect, TokenRefreshed
from millrace_client.transport import ClientTransport

from adapters.memory.intake import MemoryConversations
from gateway import admission
from gateway.drain import Drain
from gateway.limits import Limits
from gateway.session import BY_OPERATOR
from schemas import frames
from tests import make

from .conftest import Behind, World, open_world
from .following import Shown, following, message, quick, running, token, until, url


async def test_a_token_is_renewed_in_band_before_its_end(world: World):
    made: list[str] = []
    first_end = time.time() + 2

    async def provide() -> str:
        made.append(token(ttl=2 if not made else 60))
        return made[-1]

    shown = Shown()
    live = LiveConnection(url(world), provide, shown)
    subscription = live.subscribe(make.ROOM, shown, after=0)
    async with running(live):
        await until(lambda: shown.count(TokenRefreshed))
        await until(lambda: time.time() > first_end + 0.5)
        head = await world.send()
        await until(lambda: subscription.cursor == head)
    assert (len(made), live.reconnects) == (2, 0)


async def test_a_token_that_ends_ends_the_run_unless_there_is_a_newer_one(world: World):
    with pytest.raises(Unauthenticated):
        async with asyncio.timeout(10):
            await LiveConnection(url(world), token(ttl=1)).run()
    with pytest.raises(Unauthenticated):
        await LiveConnection(url(world), "no token").run()
    tokens = iter(["no token", token()])

    async def provide() -> str:
        return next(tokens)

    live = LiveConnection(url(world), provide, timer=quick())
    subscription = live.subscribe(make.ROOM, Shown(), after=0)
    async with running(live), asyncio.timeout(10):
        await subscription.ready.wait()


async def test_a_provider_that_never_makes_a_good_token_ends_the_run(world: World):
    async def provide() -> str:
        return "no token"

    async with asyncio.timeout(10):
        with pytest.raises(Unauthenticated):
            await LiveConnection(url(world), provide, timer=quick()).run()


async def test_a_connection_too_many_is_tried_again_after_the_time_it_is_told(monkeypatch):
    monkeypatch.setattr(admission, "_RETRY_S", 0.5)
    async with open_world(limits=Limits(connections_per_user=1)) as world:
        shown = Shown()
        live = LiveConnection(url(world), token(), shown, timer=quick())
        subscription = live.subscribe(make.ROOM, shown, after=0)
        clock = asyncio.get_running_loop().time
        async with world.client():
            task = asyncio.create_task(live.run())
            await until(lambda: shown.disconnects)
            refused_at = clock()
        [refused] = [frame for frame in shown.frames if isinstance(frame, ErrorFrame)]
        assert (refused.code, shown.disconnects) == ("rate_limited", ["closed the connection with 4429"])
        assert refused.retry_after_ms is not None
        async with asyncio.timeout(2 * refused.retry_after_ms / 1000):
            await subscription.ready.wait()
        assert clock() - refused_at >= refused.retry_after_ms / 1000 - 0.1
        await live.close()
        await task


async def test_a_handshake_that_is_refused_with_429_is_made_again_after_its_time(monkeypatch):
    monkeypatch.setattr(admission, "_RETRY_S", 0.5)
    async with open_world(limits=Limits(connections_per_address=1)) as world:
        shown = Shown()
        live = LiveConnection(url(world), token(), shown, timer=quick())
        subscription = live.subscribe(make.ROOM, shown, after=0)
        async with world.client("alice"):
            task = asyncio.create_task(live.run())
            await until(lambda: shown.disconnects)
        async with asyncio.timeout(15):
            await subscription.ready.wait()
        assert shown.disconnects == ["refused the connection with 429"]
        await live.close()
        await task


async def test_a_connection_that_is_lost_before_its_handshake_is_made_again(world: World, monkeypatch):
    made = ClientTransport.connection_made
    lost: list[asyncio.BaseTransport] = []

    def lose_the_first(self: ClientTransport, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        if not lost:
            lost.append(transport)
            self.transport.abort()

    monkeypatch.setattr(ClientTransport, "connection_made", lose_the_first)
    shown = Shown()
    live = LiveConnection(url(world), token(), shown, timer=quick())
    subscription = live.subscribe(make.ROOM, shown, after=0)
    async with running(live), asyncio.timeout(15):
        await subscription.ready.wait()
    assert shown.disconnects == ["was lost"]


async def test_joins_over_the_limit_are_made_later():
    async with open_world(limits=Limits(joins_per_s=1.0, max_subscriptions=1)) as world:
        rooms = [f"01900000-0000-7000-8000-{n:012}" for n in range(10, 16)]
        for room in rooms:
            await MemoryConversations(world.tables).create(room, None, "alice", ["bob"])
        live = LiveConnection(url(world), token())
        async with running(live):
            for room in rooms:
                subscription = live.subscribe(room, shown := Shown(), after=0)
                await until(lambda s=subscription, shown=shown: s.ready.is_set() or shown.ended or shown.frames)
                if not subscription.ready.is_set():
                    break
                await live.unsubscribe(room)
            assert {frame.code for frame in shown.frames if isinstance(frame, ErrorFrame)} == {"rate_limited"}
            await until(subscription.ready.is_set)
            assert shown.ended == []


async def test_a_node_that_ends_is_left_when_it_says_so(behind: Behind):
    async with behind.node("one") as world, behind.node("two") as other:
        shown = Shown()
        live = LiveConnection(url(world), token(), shown, timer=quick())
        subscription = live.subscribe(make.ROOM, shown, after=0)
        async with running(live):
            await until(subscription.ready.is_set)
            live.urls = url(other)
            [connection] = world.gateway.connections.values()
            clock = asyncio.get_running_loop().time
            connection.reply(frames.Reconnect(after_ms=300, reason="the server restarts"))
            await until(lambda: shown.count(Reconnect))
            began = clock()
            head = await world.send()  # meanwhile it is served
            await until(lambda: subscription.cursor == head)
            assert live.reconnects == 0
            await until(lambda: other.gateway.connections)
            assert 0.2 <= clock() - began < 2
            head = await other.send()
            await until(lambda: subscription.cursor == head)
    assert shown.seqs == list(range(1, head + 1))


async def test_a_drained_node_loses_nobody(behind: Behind):
    async with behind.node("one") as world, behind.node("two") as other:
        shown = Shown()
        live = LiveConnection([url(world)], token(), shown, timer=quick())
        subscription = live.subscribe(make.ROOM, shown, after=0)
        async with running(live):
            await until(subscription.ready.is_set)
            live.urls = [url(other)]
            world.gateway.draining = True
            await Drain(world.gateway.connections, asyncio.get_running_loop().create_future()).run(0.2)
            head = await other.send()
            await until(lambda: subscription.cursor == head)


async def test_who_is_closed_by_an_operator_comes_back(world: World):
    async with following(world) as (_, subscription, shown):
        [connection] = world.gateway.connections.values()
        await connection.end(BY_OPERATOR)
        head = await world.send()
        await until(lambda: subscription.cursor == head and len(shown.disconnects) == 1)
    assert shown.disconnects == ["closed the connection with 4410"]


async def test_who_is_no_member_is_told_and_one_who_is_removed_too(world: World):
    live = LiveConnection(url(world), token("mallory"))
    live.subscribe(make.ROOM, shown := Shown(), after=0)
    async with running(live):
        await until(lambda: shown.ended)
    assert shown.ended == ["not_found"]
    await world.send()
    async with following(world) as (_, _, bob):
        await MemoryConversations(world.tables).remove(make.ROOM, "bob", "alice")
        await world.tell(bob.seqs[-1] + 1)
        await until(lambda: bob.ended)
    assert bob.ended == ["removed"]


async def test_a_server_that_speaks_otherwise_is_refused(world: World):
    live = LiveConnection(url(world), token())
    with pytest.raises(ProtocolError):
        async with running(live) as task:
            await until(lambda: world.gateway.connections)
            [connection] = world.gateway.connections.values()
            await connection.transport.send("no frame")
            await task
    with pytest.raises(Refused, match="404"):
        await LiveConnection(f"{url(world)}x", token()).run()


async def test_a_listener_that_fails_ends_the_run(world: World):
    class Failing(Listener):
        def on_content(self, seq: int, raw: bytes) -> None:
            raise KeyError("x")

    await world.send()
    live = LiveConnection(url(world), token())
    live.subscribe(make.ROOM, Failing(), after=0)
    with pytest.raises(KeyError):
        async with asyncio.timeout(10):
            await live.run()


async def test_a_client_that_began_now_and_got_nothing_misses_nothing_after_a_restart(world: World):
    begun_at = await world.send()
    cursors = MemoryCursors()
    for expected in ([], [begun_at + 1]):
        live = LiveConnection(url(world), token(), cursors=cursors)
        subscription = live.subscribe(make.ROOM, shown := Shown())
        async with running(live):
            await until(subscription.ready.is_set)
        assert shown.seqs == expected
        await world.send()


async def test_no_log_holds_a_token_or_a_content(world: World, caplog):
    caplog.set_level(logging.DEBUG)
    await world.send("a secret content")
    secret, shown = token(), Shown()
    live = LiveConnection(url(world), secret, shown, timer=quick())
    live.subscribe(make.ROOM, shown, after=0)
    async with running(live):
        await until(lambda: shown.seqs)
        live.abort()
        await until(lambda: shown.disconnects)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("millrace_client")]
    assert "disconnected" in ours
    assert not [line for line in ours if secret in line or "secret content" in line]


async def test_a_content_frame_with_its_fields_in_another_order_is_followed_too():
    live = LiveConnection("", "")
    live.subscribe(make.ROOM, shown := Shown(), after=0)
    for seq in (1, 1, 2):
        fields = orjson.loads(frames.new_message(make.message(seq=seq)))
        live.receive(orjson.dumps({"seq": seq, **fields}))
    assert shown.seqs == [1, 2]


async def test_hints_and_frames_without_a_conversation_go_to_the_connection(world: World):
    shown = Shown()
    async with running(LiveConnection(url(world), token("bob"), shown)):
        await until(lambda: world.gateway.connections)
        [connection] = world.gateway.connections.values()
        connection.reply(message(9))
        await until(lambda: shown.count(NewMessage))
