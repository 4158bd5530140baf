"""Clients that are not ours: a real browser and Node.js, through the fronts, when their gateway dies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from stack.running import RunningStack
from tests.clients.engines import CLIENT, Engine, open_browser, open_node
from tests.fault.chat import Chat, open_chat
from tests.fault.site import Site
from tests.fronts import KINDS, Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ENGINES = {"chromium": open_browser, "node": open_node}
OWN, OTHERS = 25, 75


async def begin(engine: Engine, front: Front, chat: Chat, user: str, room: str) -> None:
    """One client in this engine, connected."""
    told = {"httpUrl": front.http_url, "wsUrl": front.ws_url, "token": chat.token(user), "conversationId": room}
    await engine.evaluate(CLIENT.read_text() + f"\nglobalThis.client = new ChatClient({json.dumps(told)}); null")
    await engine.evaluate("client.connect()")


async def reaches(engine: Engine, cursor: int) -> dict[str, Any]:
    """Its state once it has got so far."""
    async with asyncio.timeout(60):
        while (said := await engine.evaluate("client.state()"))["cursor"] < cursor:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return dict(said)


def delivered(chat: Chat, room: str, user: str) -> int:
    """The stored watermark of a member."""
    query = "SELECT delivered_seq FROM receipts WHERE conversation_id = %s AND user_id = %s"
    with psycopg.connect(chat.stack.pg_dsn) as conn:
        row = conn.execute(query, (room, user)).fetchone()
    return row[0] if row is not None else 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENGINES)
async def test_each_message_is_shown_once_and_in_order_when_the_gateway_dies(
    stack: RunningStack, site: Site, name: str, kind: str
):
    front = await site.front(kind)
    async with (
        open_chat(stack, rooms=1, members=2, doors=[front.http_url], watched=False) as chat,
        ENGINES[name](front.http_url, site.folder) as engine,
    ):
        [(room, (mine, theirs))] = chat.rooms.items()
        await begin(engine, front, chat, mine, room)
        await chat.post(room, "the first", sender=theirs)
        await reaches(engine, 1)
        home = await site.busiest()

        async def others() -> None:
            for n in range(OTHERS):
                await chat.post(room, f"theirs {n}", sender=theirs)
                await asyncio.sleep(0.05)

        async def own() -> None:
            for n in range(OWN):
                if n == OWN // 2:
                    home.kill()
                await engine.evaluate(f"client.send('mine {n}')")

        await asyncio.gather(others(), own())
        said = await reaches(engine, 1 + OWN + OTHERS)
        rows = chat.stored().rows
        assert said["shown"] == [[row.seq, row.sender, row.content] for row in rows]
        assert [row.seq for row in rows] == list(range(1, 2 + OWN + OTHERS))
        for who, expected in (
            (mine, [f"mine {n}" for n in range(OWN)]),
            (theirs, ["the first", *(f"theirs {n}" for n in range(OTHERS))]),
        ):
            assert [row.content for row in rows if row.sender == who] == expected
        async with asyncio.timeout(30):  # it acknowledges what it has, and again what died with its gateway
            while delivered(chat, room, mine) != 1 + OWN + OTHERS:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        first, *_, last = said["connections"]
        assert (first["after"], first["code"]) == (0, 1006)
        assert last["after"] > 0
        assert {each["protocol"] for each in (first, last)} == {"millrace.v1"}
        assert chat.token(mine) not in front.log


async def test_a_page_of_another_origin_does_not_get_in(stack: RunningStack, site: Site):
    front = await site.front("haproxy")
    async with (
        open_chat(stack, rooms=1, members=2, watched=False) as chat,
        open_browser(f"http://evil.localhost:{front.port}", site.folder) as engine,
    ):
        [(room, (user, _))] = chat.rooms.items()
        assert await engine.evaluate("location.origin") == engine.origin
        await begin(engine, front, chat, user, room)
        async with asyncio.timeout(20):
            while (await engine.evaluate("client.state()"))["connections"][0]["code"] != 1006:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert all(each["after"] is None for each in (await engine.evaluate("client.state()"))["connections"])
        await engine.visit(f"{front.http_url}/")
        await begin(engine, front, chat, user, room)
        await chat.post(room, "for members' own pages")
        assert (await reaches(engine, 1))["shown"][0][2] == "for members' own pages"
