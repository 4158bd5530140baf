"""What operators ask of a node, and how it ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway import drain
from gateway.drain import OVER_S, Drain
from schemas.frames import Error
from schemas.ids import new_id
from tests import make

from .conftest import Behind, World


async def ask(world: World, behind: Behind, node: str = "one", times: int = 1, **asked: Any) -> dict:
    """What the node answers."""
    reply = f"reply:{new_id()}"
    said = orjson.dumps({**asked, "reply": reply})
    await world.bus.publish([(f"node:{node}", said)] * times)
    async with asyncio.timeout(5):
        while reply not in behind.answers.given:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return orjson.loads(behind.answers.given.pop(reply))


async def test_a_connection_is_shown_with_what_it_has_joined(world, behind):
    async with world.client(query="?device=phone") as bob:
        await bob.join(after=0)
        await world.send()
        await bob.seqs(1)
        [id_] = world.gateway.connections
        said = await ask(world, behind, type="connection.show", id=id_)
        assert said["ok"]
        assert said["connection"]["joined"] == [{"id": make.ROOM, "seq": 1}]


async def test_a_connection_is_closed_with_a_code_of_its_own_and_its_user_may_come_back(world, behind):
    async with world.client() as bob, world.client("alice") as alice:
        id_ = next(id_ for id_, one in world.gateway.connections.items() if one.socket.user_id == "bob")
        # A Redis Cluster passes it on from each of its servers.
        assert await ask(world, behind, type="connection.close", id=id_, times=3) == {"ok": True, "closeCode": 4410}
        assert await bob.closed() == 4410
        await alice.say(type="ping")
        await alice.next("pong")
        assert (await ask(world, behind, type="connection.close", id=id_))["code"] == "not_found"
        async with world.client() as again:
            assert await again.join() == []


async def test_what_is_not_understood_is_ignored(world, behind):
    for said in (b"", b"\xff", b"{}", b'{"type":"node.drain","reply":"r"}', b'{"type":"other","reply":"r"}'):
        await world.bus.publish([("node:one", said)])
    assert (await ask(world, behind, type="connection.show", id="none"))["code"] == "not_found"
    assert not behind.answers.given


async def test_a_node_is_told_once_to_drain(world, behind):
    asked = asyncio.create_task(world.parts.control.until_drained())
    async with world.client():
        assert await ask(world, behind, type="node.drain", overS=60) == {"ok": True, "connections": 1}
        assert await asked == 60
        assert (await ask(world, behind, type="node.drain", overS=60))["code"] == "conflict"


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_sockets_are_sent_away_evenly_over_the_whole_period(world):
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(world.client(f"u{n}")) for n in range(10)]
        world.gateway.draining = True
        began, closed = time.monotonic(), []

        async def watch(client) -> int:
            said = await client.next("reconnect")
            assert await client.closed() == 1012
            closed.append(time.monotonic() - began)
            return said["afterMs"]

        told = asyncio.gather(*(watch(client) for client in clients))
        await Drain(world.gateway.connections, never()).run(1.0)
        assert sorted(await told) == [100 * n for n in range(10)]
        assert all(abs(at - 0.1 * n) < 0.6 for n, at in enumerate(sorted(closed)))
        assert not world.gateway.connections


async def test_who_is_told_to_hurry_does_not_take_the_whole_period(world):
    async with world.client() as bob, world.client("alice") as alice:
        hurry, began = never(), time.monotonic()
        asyncio.get_running_loop().call_later(0.2, hurry.set_result, None)
        await Drain(world.gateway.connections, hurry).run(600)
        assert time.monotonic() - began < OVER_S + 2
        assert await bob.closed() == await alice.closed() == 1012


async def test_while_it_drains_a_node_refuses_whoever_comes_and_says_why(world):
    async with world.client():
        world.gateway.draining = True
        hurry = never()
        draining = asyncio.create_task(Drain(world.gateway.connections, hurry).run(60))
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{world.port}/ws")
            assert caught.value.response.status_code == 503
            assert orjson.loads(caught.value.response.body)["code"] == "unavailable"
        hurry.set_result(None)
        await draining


async def test_a_client_that_never_reads_holds_up_nobody(world, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drain, "GRACE_S", 0.5)
    async with world.client(max_queue=1, close_timeout=0.1), world.client("alice") as alice:
        for connection in world.gateway.connections.values():
            if connection.socket.user_id == "bob":
                while connection.queue.waiting < 500_000:
                    connection.reply(Error(code="filling", detail="x" * 60_000))
                    await asyncio.sleep(0)
        began = time.monotonic()
        await Drain(world.gateway.connections, never()).run(0.2)
        assert time.monotonic() - began < 0.2 + 0.5 + 1
        assert await alice.closed() == 1012
