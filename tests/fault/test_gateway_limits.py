"""Row 41: storms and floods at a gateway."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosed

from adapters.auth import issue
from stack.running import RunningStack
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import rss_mb
from tests.fault.sockets import CLOGGED_S, FAT, deaf, open_socket

STORM_S, PAUSE_S = 60.0, 0.4
"""Duration of a storm; a user may connect 200 times a minute."""


@pytest.mark.slow
async def test_row_41_a_storm_of_reconnects_is_served_in_turn(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, members=4, watched=False) as chat:
        gateway = await beside("gateway")
        [(room, users)] = chat.rooms.items()
        await chat.say(200, at_once=32)

        async def come_and_read(n: int) -> int:
            async with open_socket(gateway.ws_url, chat.token(users[n % len(users)])) as socket:
                await socket.say(type="join_conversation", id=room, after=0)
                cursor = 0
                for said in await socket.until("joined"):
                    cursor += said.get("seq") == cursor + 1
                return cursor

        async with open_socket(gateway.ws_url, chat.token(users[0])) as steady:
            storm = asyncio.gather(*(come_and_read(n) for n in range(120)))
            while not storm.done():
                began = time.monotonic()
                await steady.say(type="ping")
                await steady.next("pong")
                assert time.monotonic() - began < 5
                await asyncio.sleep(0.2)
        assert set(await storm) == {200}


@pytest.mark.slow
async def test_row_41_a_socket_that_says_too_much_is_told_and_then_closed(stack: RunningStack):
    async with open_socket(stack.ws_url, issue(stack.jwt_secret, "talker", ttl_s=60)) as socket:
        for _ in range(400):
            await socket.say(type="ping")
        said = await socket.next("error")
        assert said["code"] == "rate_limited"
        assert await socket.closed() == 4429


@pytest.mark.slow
async def test_row_41_replays_that_nobody_reads_hold_up_no_join(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, members=4, watched=False) as chat, AsyncExitStack() as sockets:
        gateway = await beside("gateway")
        [(room, users)] = chat.rooms.items()
        await asyncio.gather(*(chat.post(room, FAT) for _ in range(500)))
        before = rss_mb(gateway.pid)
        for n in range(40):  # more than may read from the store at once
            await sockets.enter_async_context(deaf(gateway.ws_url, chat.token(users[n % 2]), room, 0))
        for _ in range(3):
            began = time.monotonic()
            async with open_socket(gateway.ws_url, chat.token(users[2])) as socket:
                await socket.join(room, after=490)
            assert time.monotonic() - began < 5
            assert rss_mb(gateway.pid) - before < 20 + 40
        async with asyncio.timeout(CLOGGED_S):
            while await gateway.metric("millrace_connections") > 0:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_row_41_a_storm_that_lasts_leaves_nothing_behind(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, members=12, watched=False) as chat:
        gateway = await beside("gateway")
        [(room, users)] = chat.rooms.items()
        await chat.say(200, at_once=32)
        began, before, replayed = time.monotonic(), 0.0, list[int]()

        async def come_again(user: str) -> None:
            while time.monotonic() < began + STORM_S:
                async with open_socket(gateway.ws_url, chat.token(user)) as socket:
                    await socket.say(type="join_conversation", id=room, after=0)
                    replayed.append(len(await socket.until("joined")))
                await asyncio.sleep(PAUSE_S)

        async with open_socket(gateway.ws_url, chat.token(users[0])) as steady:
            storm = asyncio.gather(*(come_again(user) for user in users[1:]))
            while not storm.done():
                if not before and time.monotonic() > began + STORM_S / 4:
                    before = rss_mb(gateway.pid)
                at = time.monotonic()
                await steady.say(type="ping")
                await steady.next("pong")
                assert time.monotonic() - at < 5
                await asyncio.sleep(0.2)
        await storm
        assert len(replayed) > 3 * STORM_S, "that was no storm"
        assert min(replayed) >= 200
        assert rss_mb(gateway.pid) - before < 20
        assert await gateway.metric("millrace_connections") == 0


@pytest.mark.slow
async def test_row_41_a_user_who_reconnects_without_end_is_slowed_down(stack: RunningStack, beside: Beside):
    gateway = await beside("gateway")
    token = issue(stack.jwt_secret, "restless", ttl_s=300)
    codes = []
    for _ in range(200):  # more than 200 a minute
        try:
            async with open_socket(gateway.ws_url, token):
                codes.append(1000)
        except ConnectionClosed as exc:
            assert exc.rcvd is not None
            codes.append(exc.rcvd.code)
        if codes[-1] == 4429:
            break
    assert codes[-1] == 4429
    assert codes.count(1000) >= 50
    await asyncio.sleep(1)  # five more a second
    async with open_socket(gateway.ws_url, token):
        pass
