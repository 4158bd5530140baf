"""Whose a connection or a call is, at both doors: tokens and attacks on them, tickets, revocations."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters.auth import Verifier, issue
from adapters.auth.claims import ClaimRules
from adapters.auth.factory import open_verifier
from adapters.auth.jwks import FetchedKeys
from adapters.auth.keys import Secret
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations
from adapters.memory.rates import MemoryRates
from domain.rates import Budgets, Limit
from domain.revocations import RevokedTokens
from gateway import channels
from ingest.http.app import create_app
from ingest.http.auth import CallerAuth
from ingest.http.concurrency import CallSlots
from ingest.http.tickets import TicketEndpoints
from runtime.settings import Auth
from tests import make
from tests.flow.conftest import Client, World, open_world
from tests.issuers import SECRET, Issuer, attacks, open_key_server

HS, RS, ES = Issuer(), Issuer("RS256", "k1"), Issuer("ES256", "k1")


@dataclass
class Doors:
    """Both doors of one service."""

    world: World
    http: httpx2.AsyncClient

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.world.port}/ws"

    async def ticket(self, token: str, **headers: str) -> httpx2.Response:
        return await self.http.post("/ws-ticket", headers={"Authorization": f"Bearer {token}", **headers})

    async def says(self, path: str = "", **more: Any) -> tuple[str, str]:
        """What a connection is told first: (type, user or code)."""
        try:
            async with connect(self.url + path, compression=None, **more) as socket:
                said = orjson.loads(await socket.recv())
                if said["type"] == "error":
                    assert await Client(socket).closed() == 4401
                return said["type"], said.get("userId") or said["code"]
        except InvalidStatus as exc:
            return "refused", str(exc.response.status_code)

    async def live(self, path: str, **more: Any) -> Client:
        socket = await connect(self.url + path, compression=None, **more)
        client = Client(socket)
        assert (await client.next())["type"] == "connected"
        return client


@asynccontextmanager
async def open_doors(verifier: Verifier) -> AsyncIterator[Doors]:
    async with open_world(verifier) as world:
        auth = CallerAuth(verifier.verify, MemoryRates(), Budgets({"tickets": Limit(0.0, 0.0)}))
        app = httpx2.ASGITransport(create_app(auth, CallSlots(), TicketEndpoints(world.tickets).endpoints()))
        async with httpx2.AsyncClient(transport=app, base_url="http://ingest") as client:
            yield Doors(world, client)


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    async with open_doors(Verifier(Secret(SECRET), ClaimRules(), RevokedTokens())) as opened:
        yield opened


# attacks


async def assert_refused(doors: Doors, name: str, token: str) -> None:
    """At the HTTP door, and in all ways into the other; what a header cannot hold comes in the query."""
    if token.isascii() and token.isprintable():
        answer = await doors.ticket(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), name
        assert token not in answer.text
        header = await doors.says(additional_headers={"Authorization": f"Bearer {token}"})
        assert header == ("error", "unauthenticated"), name
    if re.fullmatch(r"[\w.-]+", token, re.ASCII):
        protocol = await doors.says(subprotocols=["millrace.v1", f"bearer.{token}"])
        assert protocol == ("error", "unauthenticated"), name
    assert await doors.says(f"?token={quote(token, safe='')}") == ("error", "unauthenticated"), name


@pytest.mark.parametrize("issuer", [HS, RS, ES], ids=["HS256", "RS256", "ES256"])
async def test_no_attack_opens_a_door(issuer: Issuer):
    async with open_key_server(*([] if issuer is HS else [issuer])) as server:
        auth = Auth(secret=SECRET) if issuer is HS else Auth(algorithm=issuer.algorithm, jwks_url=server.url)
        async with open_verifier(auth, RevokedTokens(), wait_s=0) as verifier, open_doors(verifier) as doors:
            assert (await doors.ticket(issuer.token())).status_code == 201
            assert await doors.says(f"?token={issuer.token()}") == ("connected", "bob")
            for name, token in attacks(issuer).items():
                await assert_refused(doors, name, token)


async def test_a_rotated_key_opens_both_doors_and_an_outage_closes_none():
    old, new = Issuer("RS256", "old"), Issuer("RS256", "new")
    async with open_key_server(old) as server:
        auth = Auth(algorithm="RS256", jwks_url=server.url)
        async with open_verifier(auth, RevokedTokens(), wait_s=0) as verifier, open_doors(verifier) as doors:
            server.keys = [old.jwk(), new.jwk()]
            for issuer in (new, old):
                assert (await doors.ticket(issuer.token())).status_code == 201
                assert await doors.says(f"?token={issuer.token()}") == ("connected", "bob")
            server.status = 500
            assert (await doors.ticket(Issuer("RS256", "unknown").token())).status_code == 401
            assert (await doors.ticket(new.token(jti="other"))).status_code == 201
            server.status, server.keys = 200, [new.jwk()]
            assert isinstance(verifier.keys, FetchedKeys)
            await verifier.keys.refresh()
            assert (await doors.ticket(old.token())).status_code == 401
            assert await doors.says(f"?token={old.token()}") == ("error", "unauthenticated")


# tickets


async def test_a_ticket_opens_one_connection_that_ends_with_the_token(doors: Doors):
    answer = await doors.ticket(issue(SECRET, "bob", ttl_s=2))
    said = answer.json()
    assert set(said) == {"ticket", "expiresAt"}
    assert answer.headers["cache-control"] == "no-store"
    client = await doors.live(f"?ticket={said['ticket']}")
    assert await doors.says(f"?ticket={said['ticket']}") == ("error", "unauthenticated")
    assert await client.closed() == 4401


async def test_a_ticket_of_a_page_is_for_pages_of_that_origin(doors: Doors):
    token = issue(SECRET, "bob", ttl_s=60)
    ticket = (await doors.ticket(token, Origin="https://chat.example")).json()["ticket"]
    assert await doors.says(f"?ticket={ticket}", origin="https://chat.example") == ("connected", "bob")
    ticket = (await doors.ticket(token, Origin="https://other.example")).json()["ticket"]
    assert await doors.says(f"?ticket={ticket}", origin="https://chat.example") == ("error", "unauthenticated")
    ticket = (await doors.ticket(token, Origin="https://chat.example")).json()["ticket"]
    assert await doors.says(f"?ticket={ticket}") == ("error", "unauthenticated")


async def test_a_ticket_is_given_to_a_token_alone_and_for_no_endless_origin(doors: Doors):
    assert (await doors.http.post("/ws-ticket")).status_code == 401
    ticket = (await doors.ticket(HS.token())).json()["ticket"]
    assert (await doors.ticket(ticket)).status_code == 401
    assert (await doors.ticket(HS.token(), Origin="https://" + "x" * 300)).status_code == 422


async def test_a_ticket_that_cannot_be_looked_up_is_no_bad_one(doors: Doors):
    ticket = (await doors.ticket(HS.token())).json()["ticket"]
    doors.world.tickets.down = True
    async with connect(f"{doors.url}?ticket={ticket}") as socket:
        client = Client(socket)
        assert (await client.next())["code"] == "unavailable"
        assert await client.closed() == 1013
    doors.world.tickets.down = False
    assert await doors.says(f"?ticket={ticket}") == ("connected", "bob")


async def test_the_first_of_what_a_handshake_brings_counts(doors: Doors):
    tokens = {user: issue(SECRET, user, ttl_s=60) for user in ("alice", "bob", "carol", "dora")}
    header = {"additional_headers": {"Authorization": f"Bearer {tokens['alice']}"}}
    protocol = {"subprotocols": ["millrace.v1", f"bearer.{tokens['carol']}"]}
    ticket = (await doors.ticket(tokens["bob"])).json()["ticket"]
    both = f"?token={tokens['dora']}&ticket={ticket}"
    assert await doors.says(both, **header, **protocol) == ("connected", "alice")
    assert await doors.says(both, **protocol) == ("connected", "bob")
    assert await doors.says(both, **protocol) == ("error", "unauthenticated")  # used up; no other is tried
    assert await doors.says(f"?token={tokens['dora']}", **protocol) == ("connected", "carol")
    assert await doors.says(f"?token={tokens['dora']}") == ("connected", "dora")


@pytest.mark.parametrize("name", ["Origin", "Authorization"])
async def test_two_headers_of_one_name_are_refused(doors: Doors, name: str):
    good = {"Origin": "https://chat.example", "Authorization": f"Bearer {issue(SECRET, 'bob', ttl_s=60)}"}[name]
    assert await doors.says(additional_headers=[(name, good), (name, good)]) == ("refused", "400")


async def test_pages_of_no_origin_are_refused(doors: Doors):
    path = f"?token={issue(SECRET, 'bob', ttl_s=60)}"
    for origin in ("null", "https://chat.example.evil.example", "http://chat.example", "https://chat.example:8443"):
        assert await doors.says(path, origin=origin) == ("refused", "403")
    assert await doors.says(path, origin="https://chat.example") == ("connected", "bob")


# revocations


async def all_closed(clients: list[Client]) -> float:
    began = time.monotonic()
    assert await asyncio.gather(*(client.closed() for client in clients)) == [4401] * len(clients)
    return time.monotonic() - began


@pytest.mark.parametrize("redis", ["up", "losing", "down"])
async def test_a_user_is_revoked_on_live_sockets_and_at_both_doors(doors: Doors, redis: str):
    world = doors.world
    world.bus.losing, world.bus.down = redis == "losing", redis == "down"
    tokens = [HS.token(jti=f"j{n}", iat=int(time.time()) - 1) for n in range(3)]
    ticket = (await doors.ticket(tokens[2])).json()["ticket"]
    unused = (await doors.ticket(tokens[2])).json()["ticket"]
    paths = [*(f"?token={token}" for token in tokens), f"?ticket={ticket}"]
    clients = [await doors.live(path) for path in paths]
    async with world.client("carol") as carol:
        made = await world.revocations.revoke("bob", None)
        if redis == "up":
            await world.bus.publish([(channels.REVOCATIONS, b"")])
        assert await all_closed(clients) < 2
        for token in tokens:
            assert (await doors.ticket(token)).status_code == 401
            assert await doors.says(f"?token={token}") == ("error", "unauthenticated")
        assert await doors.says(f"?ticket={unused}") == ("error", "unauthenticated")
        newer = HS.token(jti="new", iat=int(made.at) + 1, exp=int(made.at) + 60)
        assert (await doors.ticket(newer)).status_code == 201
        assert await doors.says(f"?token={newer}") == ("connected", "bob")
        assert await world.revocations.closed(made.number) == 4
        await carol.say(type="ping")
        assert (await carol.next())["type"] == "pong"


async def test_one_token_is_revoked_and_the_others_go_on(doors: Doors):
    lost, kept = HS.token(jti="lost"), HS.token(jti="kept")
    goes, stays, refreshed = (
        (await doors.live(f"?token={token}") for token in (lost, kept, lost))
        if False
        else (
            await doors.live(f"?token={lost}"),
            await doors.live(f"?token={kept}"),
            await doors.live(f"?token={lost}"),
        )
    )
    await refreshed.say(type="auth.refresh", token=HS.token(jti="later", exp=int(time.time()) + 90))
    assert (await refreshed.next())["type"] == "auth.refreshed"
    await doors.world.revocations.revoke("bob", "lost")
    await doors.world.bus.publish([(channels.REVOCATIONS, b"")])
    assert await goes.closed() == 4401
    for client in (stays, refreshed):
        await client.say(type="auth.refresh", token=lost)
        assert (await client.next())["code"] == "unauthenticated"
        await client.socket.close()


async def test_a_revocation_during_an_outage_of_the_store_is_found_after_it(doors: Doors):
    world = doors.world
    client = await doors.live(f"?token={HS.token()}")
    await world.revocations.revoke("bob", None)
    world.revocations.down = True
    await world.bus.publish([(channels.REVOCATIONS, b"")])
    await client.say(type="ping")
    assert (await client.next())["type"] == "pong"
    world.revocations.down = False
    assert await client.closed() == 4401


# removal


async def test_who_is_removed_is_told_and_keeps_the_connection(world: World):
    async with world.client("carol") as carol, world.client("carol") as idle:
        await carol.join(after=0)
        world.bus.down = True
        await MemoryConversations(world.tables).remove(make.ROOM, "carol", by="alice")
        said = await carol.next("conversation_changed")
        assert (said["change"], said["userId"]) == ("member_removed", "carol")
        assert await carol.next() == {"type": "left", "id": make.ROOM, "reason": "removed"}
        await world.send(told=False)
        await carol.say(type="typing", conversationId=make.ROOM, isTyping=True)
        assert (await carol.next())["code"] == "not_found"
        for client in (carol, idle):
            await client.say(type="join_conversation", id=make.ROOM, after=0)
            assert (await client.next())["code"] == "not_found"
        assert make.ROOM not in world.gateway.hub.rooms
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await idle.socket.recv()


async def test_a_removal_during_the_join_that_opens_a_room_is_not_missed(world: World, monkeypatch):
    heads, removed = MemoryHistory.heads, []

    async def late(self: MemoryHistory, ids: Any) -> Any:
        if not removed:  # between the first look at the members and the head
            await MemoryConversations(world.tables).remove(make.ROOM, "carol", by="alice")
            removed.append(make.ROOM)
        return await heads(self, ids)

    monkeypatch.setattr(MemoryHistory, "heads", late)
    async with world.client("carol") as carol:
        await carol.say(type="join_conversation", id=make.ROOM, after=0)
        assert (await carol.next())["code"] == "not_found"
        await world.send()
        await carol.say(type="ping")
        assert (await carol.next())["type"] == "pong"
