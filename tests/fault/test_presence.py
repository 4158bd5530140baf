"""Rows 37 and 38 for what is advisory: who is connected, who types, and what operators do about it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from datetime import datetime
from typing import Any

import pytest

from gateway.drain import OVER_S
from gateway.typing import SILENT_S
from stack.running import RunningStack
from tests.e2e.conftest import errors, millrace
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.sockets import open_socket

LEASE_S = 2
SHORT = {"MILLRACE_GATEWAY__LEASE_S": str(LEASE_S)}
AWAY = {"MILLRACE_REDIS__URL": "redis://127.0.0.1:1/0"}


async def command(stack: RunningStack, *words: str) -> Any:
    """What a command of ours says, as a program reads it."""
    done = await asyncio.to_thread(millrace, *words, "--data", str(stack.data))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refused(*words: str, **more: Any) -> str:
    """The one line that it says instead."""
    done = await asyncio.to_thread(millrace, *words, **more)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = errors(done)
    return line


async def test_row_37_a_killed_gateway_leaves_no_ghost_for_longer_than_a_lease(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, watched=False) as chat:
        await chat.all_write()
        killed, other = await asyncio.gather(
            beside("gateway", node="killed", env=SHORT), beside("gateway", node="other", env=SHORT)
        )
        [(room, (alice, bob, carol))] = chat.rooms.items()
        async with (
            open_socket(other.ws_url, chat.token(alice)) as watching,
            open_socket(killed.ws_url, chat.token(bob)),
            open_socket(killed.ws_url, chat.token(carol)),
            open_socket(other.ws_url, chat.token(carol)),
        ):
            await watching.join(room)
            rows = await command(stack, "connections", "list", "--node", "killed", "--json")
            assert {row["userId"] for row in rows} == {bob, carol}
            killed.kill()
            died = time.time()
            while (said := await watching.next("presence", seconds=20))["online"]:
                pass
            assert time.time() - died < LEASE_S + 5
            assert said["userId"] == bob, "carol is connected elsewhere"
            assert died - LEASE_S < datetime.fromisoformat(said["lastSeen"]).timestamp() < died + 0.5
            assert await command(stack, "connections", "list", "--node", "killed", "--json") == []
            assert await command(stack, "connections", "list", "--user", bob, "--json") == []
            [row] = await command(stack, "connections", "list", "--user", carol, "--json")
            assert row["node"] == "other"
            async with open_socket(other.ws_url, chat.token(carol)) as late:
                await late.join(room)
                told = {said["userId"]: said for said in [await late.next("presence"), await late.next("presence")]}
                assert (told[alice]["online"], told[bob]["online"]) == (True, False)


@pytest.mark.slow
async def test_row_37_the_typing_of_a_killed_gateway_ends(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, watched=False) as chat:
        killed = await beside("gateway", node="killed-typing")
        [(room, (alice, bob, _))] = chat.rooms.items()
        async with open_socket(stack.ws_url, chat.token(alice)) as watching:
            async with open_socket(killed.ws_url, chat.token(bob)) as typist:
                await watching.join(room)
                await typist.join(room)
                await typist.say(type="typing", conversationId=room, isTyping=True)
                assert (await watching.next("typing"))["isTyping"] is True
                killed.kill()
            died = time.monotonic()
            assert (await watching.next("typing"))["isTyping"] is False
            assert time.monotonic() - died < SILENT_S + 1


@pytest.mark.slow
async def test_row_37_a_gateway_that_comes_back_under_its_name_revives_no_ghost(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, watched=False) as chat:
        gateway = await beside("gateway", node="same")  # its lease is 30 s
        [(_, (alice, *_))] = chat.rooms.items()
        async with open_socket(gateway.ws_url, chat.token(alice)):
            assert len(await command(stack, "connections", "list", "--user", alice, "--json")) == 1
            gateway.kill()
        gateway.start()
        await gateway.ready()
        async with asyncio.timeout(10):
            while await command(stack, "connections", "list", "--user", alice, "--json"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_operators_see_connections_close_them_and_drain_their_gateway(stack: RunningStack, beside: Beside):
    async with open_chat(stack, rooms=1, watched=False) as chat:
        gateway = await beside("gateway", node="drained")
        [(room, (alice, bob, _))] = chat.rooms.items()
        url = f"{gateway.ws_url}?device=phone"
        async with open_socket(url, chat.token(alice)) as one, open_socket(gateway.ws_url, chat.token(bob)) as two:
            await one.join(room, after=0)
            [row] = await command(stack, "connections", "list", "--user", alice, "--json")
            assert (row["node"], row["device"]) == ("drained", "phone")
            shown = await command(stack, "connections", "show", row["connectionId"])
            assert [joined["id"] for joined in shown["joined"]] == [room]
            said = await command(stack, "connections", "close", row["connectionId"], "--json")
            assert said["closeCode"] == await one.closed() == 4410
            gateways = {one["node"]: one for one in await command(stack, "gateways", "list", "--json")}
            assert (gateways["drained"]["state"], gateways["drained"]["connections"]) == ("serving", 1)
            began = time.monotonic()
            draining = asyncio.create_task(command(stack, "gateways", "drain", "drained", "--over", "3s", "--json"))
            assert (await two.next("reconnect"))["afterMs"] == 0
            assert await two.closed() == 1012
            assert (await draining)["state"] == "has ended"
            assert await gateway.ended(5) == 0
            assert time.monotonic() - began < 3 + 5 + 3  # the command takes its time to start, too
        assert "drained" not in {one["node"] for one in await command(stack, "gateways", "list", "--json")}
        data = ("--data", str(stack.data))
        assert "see `millrace connections list`" in await refused("connections", "close", row["connectionId"], *data)
        assert "gateway drained is not running" in await refused("gateways", "drain", "drained", *data)
        assert "not a duration" in await refused("gateways", "drain", "drained", "--over", "soon", *data)


async def test_without_redis_the_commands_say_so(stack: RunningStack, monkeypatch):
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)
    assert "Redis does not answer" in await refused("gateways", "list")
    assert "Redis does not answer" in await refused("connections", "list", "--user", "alice")


async def test_row_38_the_way_out_takes_no_longer_than_it_was_given(stack: RunningStack, beside: Beside):
    gateway = await beside("gateway", node="leaving")
    async with open_chat(stack, rooms=1, watched=False) as chat:
        await chat.all_write()
        [(room, (alice, bob, _))] = chat.rooms.items()
        async with open_socket(stack.ws_url, chat.token(bob)) as watching:
            await watching.join(room)
            async with open_socket(gateway.ws_url, chat.token(alice)) as socket:
                assert (await watching.next("presence"))["online"] is True
                began = time.monotonic()
                gateway.signal(signal.SIGTERM)
                assert await socket.closed() == 1012
                assert await gateway.ended(OVER_S + 5) == 0
                assert time.monotonic() - began < OVER_S + 5
            # She does not come back, and the node that knew is no more. A broadcast may repeat what a join has shown.
            said = await watching.next("presence", seconds=15)
            while said["online"]:
                said = await watching.next("presence", seconds=15)
            assert said["userId"] == alice
