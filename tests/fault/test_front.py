"""Row 44, and what else happens at HAProxy and NGINX while clients talk through them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from adapters.auth import issue
from schemas.ids import new_id
from stack.running import RunningStack
from tests.fault.chat import Chat, open_chat
from tests.fault.site import Site
from tests.fault.sockets import Socket
from tests.fronts import KINDS, Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HARD_STOP = {
    "haproxy": {"env": {"FRONT_HARD_STOP": "3s"}},
    "nginx": {"changes": {"worker_shutdown_timeout 60s": "worker_shutdown_timeout 3s"}},
}


def idle(kind: str, seconds: int) -> dict[str, Any]:
    """A front that cuts what is silent for so long."""
    names = {"haproxy": ["timeout tunnel"], "nginx": ["proxy_read_timeout", "proxy_send_timeout"]}[kind]
    return {"changes": {f"{name} 60s": f"{name} {seconds}s" for name in names}}


async def becomes(condition: Callable[[], Any], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def told(chat: Chat, kind: str) -> int:
    """How many frames of this kind all members together were given."""
    return sum(said["type"] == kind for watcher in chat.watchers for said in watcher.screen.others)


def names_nobody(front: Front, chat: Chat) -> None:
    """Its log has lines, and no token."""
    assert any("/ws" in line for line in front.lines)
    assert any("POST" in line and "/messages" in line for line in front.lines)
    log = front.log
    assert not [token for token in chat.tokens.values() if token in log]


@pytest.mark.parametrize("kind", KINDS)
async def test_nodes_behind_a_front_die_and_leave_and_nothing_is_lost(stack: RunningStack, site: Site, kind: str):
    front = await site.front(kind)
    url = front.ws_url
    async with open_chat(stack, rooms=6, doors=[front.http_url], ws_url=url) as chat:
        for user, token in list(chat.tokens.items())[:3]:
            room = next(room for room, users in chat.rooms.items() if user in users)
            await chat.watch(user, room, f"{url}?token={token}")
        everyone = len(chat.watchers)
        assert sum((await site.sockets()).values()) == everyone
        load = asyncio.create_task(chat.say(400, at_once=4, pace_s=0.1))
        await becomes(lambda: len(chat.attempts) > 50)
        killed = await site.busiest()
        killed.kill()
        await becomes(lambda: len(chat.attempts) > 130)
        leaving = await site.busiest()
        before = (await site.sockets())[leaving.node]
        leaving.signal(signal.SIGTERM)
        assert await leaving.ended(25) == 0
        assert told(chat, "reconnect") >= before
        await becomes(lambda: len(chat.attempts) > 220)
        site.ingests[0].kill()
        await load
        await chat.settled(60)
        assert list((await site.sockets()).values()) == [everyone]
        await chat.verdict()
        names_nobody(front, chat)


@pytest.mark.parametrize("kind", KINDS)
async def test_row_44_a_front_is_reloaded_and_killed_and_clients_go_on(stack: RunningStack, site: Site, kind: str):
    front = await site.front(kind, **HARD_STOP[kind])
    async with open_chat(stack, rooms=6, doors=[front.http_url], ws_url=front.ws_url) as chat:
        load = asyncio.create_task(chat.say(300, at_once=4, pace_s=0.1))
        await becomes(lambda: len(chat.attempts) > 50)
        old = set(front.workers)
        front.reload()
        await becomes(lambda: not old & set(front.workers))
        await becomes(lambda: all(watcher.live.reconnects for watcher in chat.watchers))
        await becomes(lambda: told(chat, "connected") >= 2 * len(chat.watchers))
        assert all(attempt.status in (200, 201) for attempt in chat.attempts), "a reload is not seen by requests"
        front.kill()
        await becomes(lambda: all(watcher.live.reconnects > 1 for watcher in chat.watchers))
        await front.start()
        await load
        await chat.settled(60)
        assert sum((await site.sockets()).values()) == len(chat.watchers)
        await chat.verdict()
        names_nobody(front, chat)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_heartbeat_keeps_an_idle_socket_where_it_is_shorter(stack: RunningStack, site: Site, kind: str):
    longer, shorter = await site.front(kind, **idle(kind, 25)), await site.front(kind, **idle(kind, 5))
    kept, cut = await asyncio.gather(silent(stack, longer), silent(stack, shorter))
    async with kept, cut:
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(15):
                await cut.recv()
        with pytest.raises(TimeoutError):  # three heartbeats, and nothing else
            async with asyncio.timeout(55):
                await kept.recv()
        await Socket(kept).say(type="ping")
        await Socket(kept).next("pong")


async def silent(stack: RunningStack, front: Front) -> ClientConnection:
    """A socket that says nothing by itself."""
    headers = {"Authorization": f"Bearer {issue(stack.jwt_secret, f'silent-{new_id()[-8:]}', ttl_s=300)}"}
    socket = await connect(front.ws_url, additional_headers=headers, compression=None, proxy=None, ping_interval=None)
    await Socket(socket).next("connected")
    return socket


async def test_who_comes_back_with_the_cookie_finds_its_node_while_that_lives(stack: RunningStack, site: Site):
    front = await site.front("haproxy")
    headers = {"Authorization": f"Bearer {issue(stack.jwt_secret, f'back-{new_id()[-8:]}', ttl_s=300)}"}
    async with connect(front.ws_url, additional_headers=headers, proxy=None) as socket:
        await Socket(socket).next("connected")
        home = await site.busiest()
        assert socket.response is not None
        headers["Cookie"] = socket.response.headers["Set-Cookie"].partition(";")[0]
    for _ in range(4):
        async with connect(front.ws_url, additional_headers=headers, proxy=None) as socket:
            await Socket(socket).next("connected")
            assert await site.busiest() is home
    home.kill()
    async with connect(front.ws_url, additional_headers=headers, proxy=None) as socket:
        await Socket(socket).next("connected")
        assert await site.busiest() is not home
