"""Rows 37 to 42: a node may die, freeze, leave or be clogged, and no screen shows it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from adapters.auth import issue
from cli.users import end_tokens
from gateway.drain import OVER_S
from schemas.ids import new_id
from stack.running import RunningStack
from tests.e2e.conftest import millrace
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import Extra, rss_mb, through
from tests.fault.sockets import CLOGGED_S, FAT, deaf, first_word, open_socket
from verify.fault_proxy import open_proxy

DEAF = 20


def frames(chat: Chat, kind: str) -> list[dict[str, Any]]:
    """What all members together were told of this kind."""
    return [said for watcher in chat.watchers for said in watcher.screen.others if said["type"] == kind]


async def test_row_37_forty_clients_of_a_killed_node_go_on_at_another(stack: RunningStack, beside: Beside):
    async with open_proxy() as balancer, open_chat(stack, rooms=8, members=5, watched=False) as chat:
        gateway = await beside("gateway")
        balancer.upstream = gateway.port
        url = f"ws://127.0.0.1:{balancer.port}/ws"
        await asyncio.gather(*(chat.watch(user, room, url) for room, users in chat.rooms.items() for user in users))
        load = asyncio.create_task(chat.say(160, pace_s=0.1))
        while len(chat.attempts) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        gateway.kill()
        through(stack.ws_url, balancer)
        await load
        await chat.settled()
        assert all(watcher.live.reconnects for watcher in chat.watchers)
        await chat.verdict()


async def test_row_38_nodes_that_leave_send_their_clients_away_whoever_does_not_read(
    stack: RunningStack, beside: Beside
):
    async with open_proxy() as balancer, open_chat(stack, rooms=4, watched=False) as chat:
        one, other = await asyncio.gather(beside("gateway", node="one"), beside("gateway", node="other"))
        balancer.upstream = one.port
        url = f"ws://127.0.0.1:{balancer.port}/ws"
        await asyncio.gather(*(chat.watch(user, room, url) for room, users in chat.rooms.items() for user in users))
        load = asyncio.create_task(chat.say(200, at_once=4, pace_s=0.1))
        for leaving, following, how in ((one, other.http_url, by_signal), (other, stack.ws_url, by_command)):
            through(following, balancer)
            before = len(frames(chat, "connected"))
            await leaves(chat, leaving, how)
            async with asyncio.timeout(15):
                while len(frames(chat, "connected")) < before + len(chat.watchers):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await load
        await chat.settled()
        told = [said["afterMs"] for said in frames(chat, "reconnect")]
        assert len(told) == 2 * len(chat.watchers)
        assert len(set(told)) >= len(chat.watchers), "they are not spread"
        await chat.verdict()


async def by_signal(gateway: Extra) -> None:
    gateway.signal(signal.SIGTERM)


async def by_command(gateway: Extra) -> None:
    words = ("gateways", "drain", gateway.node, "--over", f"{OVER_S:.0f}s", "--no-wait")
    done = await asyncio.to_thread(millrace, *words, "--data", str(gateway.stack.data))
    assert done.returncode == 0, done.stderr


async def leaves(chat: Chat, gateway: Extra, how: Callable[[Extra], Awaitable[None]]) -> None:
    """1012 to each socket, and the end in time, although one takes nothing."""
    room, users = next(iter(chat.rooms.items()))
    async with deaf(gateway.ws_url, chat.token(users[0]), room, 0):
        async with open_socket(gateway.ws_url, chat.token(users[1])) as socket:
            await how(gateway)
            began = time.monotonic()
            assert await socket.closed() == 1012
        assert await gateway.ended(OVER_S + 5 - (time.monotonic() - began)) == 0


@pytest.mark.slow
async def test_row_39_clients_that_never_read_are_cut_and_cost_a_mebibyte_each(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, watched=False) as chat, AsyncExitStack() as sockets:
        gateway = await beside("gateway")
        [(room, users)] = chat.rooms.items()
        watcher = await chat.watch(users[0], room, gateway.ws_url)
        await asyncio.gather(*(chat.post(room, FAT) for _ in range(50)))  # what a load costs without them
        before = rss_mb(gateway.pid)
        for n in range(DEAF):
            await sockets.enter_async_context(deaf(gateway.ws_url, chat.token(users[1 + n % 2]), room))
        await asyncio.gather(*(chat.post(room, FAT) for _ in range(700)))
        async with asyncio.timeout(CLOGGED_S):
            while await gateway.metric("millrace_connections") > 1:
                assert rss_mb(gateway.pid) - before < 20 + DEAF
        await chat.settled(60)
        await chat.verdict()
        assert watcher.live.reconnects == 0, "who reads was cut, too"


async def test_row_40_a_node_that_froze_at_the_last_message_delivers_it(stack: RunningStack, beside: Beside):
    async with open_chat(stack, watched=False) as chat:
        gateway = await beside("gateway")
        for room, users in chat.rooms.items():
            await chat.watch(users[0], room, gateway.ws_url)
        await chat.say(30)
        await chat.settled()
        gateway.signal(signal.SIGSTOP)
        await asyncio.gather(*(chat.post(room, "the last one") for room in chat.rooms))
        await asyncio.sleep(3)  # the fault itself
        gateway.signal(signal.SIGCONT)
        await chat.settled(5, stages=False)
        await chat.verdict()


@pytest.mark.slow
async def test_row_40_a_node_that_froze_for_longer_than_it_waits_for_its_peers(stack: RunningStack, beside: Beside):
    async with open_chat(stack, watched=False) as chat:
        gateway = await beside("gateway")
        for room, users in chat.rooms.items():
            await chat.watch(users[0], room, gateway.ws_url)
        await asyncio.gather(*(chat.post(room, FAT) for room in chat.rooms for _ in range(20)))
        gateway.signal(signal.SIGSTOP)
        await asyncio.gather(*(chat.post(room, FAT) for room in chat.rooms for _ in range(20)))
        await asyncio.sleep(25)  # the fault itself
        gateway.signal(signal.SIGCONT)
        await chat.settled(30, stages=False)
        assert await gateway.metric("millrace_slow_sockets_total") == 0
        await chat.verdict()


async def test_row_42_a_socket_ends_with_its_token_without_redis(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy:
        gateway = await beside("gateway", redis=proxy)
        proxy.refuse()
        proxy.reset()
        began = time.monotonic()
        async with open_socket(gateway.ws_url, issue(stack.jwt_secret, "brief", ttl_s=3)) as socket:
            assert await socket.closed() == 4401
        assert time.monotonic() - began < 8


WITHIN_S = {"up": 2.0, "away": 30.0}
"""A revocation or a removal takes effect on every node, with Redis and without."""


@pytest.mark.parametrize("redis", ["up", "away"])
async def test_row_42_a_revoked_token_ends_its_sockets_and_opens_nothing(
    stack: RunningStack, beside: Beside, redis: str
):
    async with open_proxy() as proxy, httpx2.AsyncClient() as client:
        gateway, ingest = await asyncio.gather(beside("gateway", redis=proxy), beside("ingest", redis=proxy))
        if redis == "away":
            proxy.refuse()
            proxy.reset()
        user = f"revoked-{new_id()[-8:]}"
        headers = {"authorization": f"Bearer {issue(stack.jwt_secret, user, ttl_s=900)}"}
        token = headers["authorization"].removeprefix("Bearer ")
        ticket, unused = [(await client.post(f"{ingest.http_url}/ws-ticket", headers=headers)).json()["ticket"]
                          for _ in range(2)]  # fmt: skip

        async def refused() -> None:
            asked = f"{ingest.http_url}/conversations"
            while (await client.get(asked, headers=headers)).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

        async with (
            open_socket(gateway.ws_url, token) as here,
            open_socket(f"{gateway.ws_url}?ticket={ticket}") as by_ticket,
            open_socket(stack.ws_url, token) as elsewhere,
        ):

            async def closed() -> float:
                codes = await asyncio.gather(here.closed(), by_ticket.closed(), elsewhere.closed(), refused())
                assert codes[:3] == [4401] * 3
                return time.time()

            said, ended = await asyncio.gather(end_tokens(stack.pg_dsn, stack.redis_url, user, None), closed())
            assert ended - said.at < WITHIN_S[redis]
            assert said.closed == (3 if redis == "up" else 1)  # when the command looked
        for path in (f"?token={token}", f"?ticket={unused}"):
            assert await first_word(gateway.ws_url + path) == "unauthenticated"


@pytest.mark.parametrize("redis", ["up", "away"])
async def test_row_42_a_removed_member_is_shown_nothing_more(stack: RunningStack, beside: Beside, redis: str):
    async with open_proxy() as proxy, open_chat(stack, rooms=1, watched=False) as chat:
        gateway = await beside("gateway", redis=proxy)
        if redis == "away":
            proxy.refuse()
            proxy.reset()
        [(room, (owner, removed, other))] = chat.rooms.items()
        await chat.watch(other, room, gateway.ws_url)
        async with open_socket(gateway.ws_url, chat.token(removed)) as socket:
            await socket.join(room, after=0)
            await chat.say(10)
            await chat.settled()
            async with httpx2.AsyncClient(base_url=stack.http_url) as client:
                headers = {"authorization": f"Bearer {chat.token(owner)}"}
                gone = await client.delete(f"/conversations/{room}/members/{removed}", headers=headers)
                assert gone.status_code == 204
            began = time.monotonic()
            shown = await socket.until("left")
            assert time.monotonic() - began < WITHIN_S[redis]
            assert [said.get("change") for said in shown[-2:]] == ["member_removed", None]
            for n in range(20):
                await chat.post(room, f"not for the removed: {n}")
            await chat.settled()
            await socket.say(type="ping")
            shown += await socket.until("pong")
            seen = [said["seq"] for said in shown if said["type"] in ("new_message", "conversation_changed")]
            assert set(seen) == {*range(1, 12)}  # the removal itself is the eleventh
            await socket.say(type="join_conversation", id=room, after=0)
            assert (await socket.next("joined", "error"))["type"] == "error"
        await chat.verdict()
