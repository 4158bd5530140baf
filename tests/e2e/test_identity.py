"""Identity over the whole stack: an issuer's keys, the command that revokes, secrets that stay where they belong."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from adapters.auth import issue
from schemas.ids import new_id
from stack.processes import family
from stack.running import RunningStack
from stack.servers.data_dir import DataDir
from tests.e2e.conftest import Person, errors, millrace, process, until
from tests.e2e.test_front_doors import upload
from tests.fault.conftest import Beside, beside
from tests.issuers import Issuer, open_key_server

__all__ = ["beside"]


async def test_an_issuers_tokens_open_both_doors_while_its_keys_rotate(stack: RunningStack, beside: Beside):
    old, new = Issuer("ES256", "old"), Issuer("ES256", "new")
    async with open_key_server(old) as keys, httpx2.AsyncClient() as client:
        env = {"MILLRACE_AUTH__ALGORITHM": "ES256", "MILLRACE_AUTH__SECRET": "", "MILLRACE_AUTH__JWKS_URL": keys.url}
        ingest, gateway = await asyncio.gather(beside("ingest", env=env), beside("gateway", env=env))

        async def both(token: str) -> tuple[int, str]:
            answer = await client.get(f"{ingest.http_url}/conversations", headers={"authorization": f"Bearer {token}"})
            async with connect(f"{gateway.ws_url}?token={token}", proxy=None) as socket:
                return answer.status_code, json.loads(await socket.recv())["type"]

        assert await both(old.token()) == (200, "connected")
        keys.keys.append(new.jwk())
        assert await both(new.token()) == (200, "connected")
        keys.status = 500
        assert await both(old.token(jti="during an outage")) == (200, "connected")
        for forged in (issue(stack.jwt_secret, "bob", ttl_s=60), Issuer("ES256", "mine").token({"kid": "old"})):
            assert await both(forged) == (401, "error")


@pytest.mark.parametrize("name", ["ingest", "gateway"])
async def test_settings_that_mix_families_end_a_process_with_a_word(stack: RunningStack, beside: Beside, name: str):
    env = {"MILLRACE_AUTH__JWKS_URL": "https://id.example/keys"}
    with pytest.raises(AssertionError, match="MILLRACE_AUTH__JWKS_URL is for RS256 and ES256"):
        await beside(name, env=env)


async def test_the_command_revokes_and_counts(stack: RunningStack, person):
    alice: Person = person("alice")
    async with alice.live() as one, alice.live() as other:
        data = ("--data", str(stack.data))
        done = await asyncio.to_thread(millrace, "users", "revoke", alice.user, "--json", *data)
        said = json.loads(done.stdout)
        assert (done.returncode, errors(done)) == (0, [])
        assert (said["userId"], said["jti"], said["closed"], said["told"]) == (alice.user, None, 2, True)
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as caught:
                await client.next("never")
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4401, "the token was revoked")
    assert alice.http.get("/conversations").status_code == 401
    shown = await asyncio.to_thread(millrace, "users", "revoke", alice.user, "--token", "j1", *data)
    assert shown.stdout.startswith(f"revoked for {alice.user}: the token j1 (")
    wrong = await asyncio.to_thread(millrace, "users", "revoke", alice.user, "--token", alice.token, *data)
    assert (wrong.returncode, alice.token in wrong.stderr) == (1, False)
    await asyncio.to_thread(until, lambda: alice_again(stack, alice), 5)


def alice_again(stack: RunningStack, alice: Person) -> bool:
    """A token that is issued after the revocation holds."""
    headers = {"authorization": f"Bearer {issue(stack.jwt_secret, alice.user, ttl_s=60)}"}
    return httpx2.get(f"{stack.http_url}/conversations", headers=headers).status_code == 200


# what must not be seen


async def told(socket: ClientConnection) -> str:
    """All that a socket is told until it rests or ends."""
    heard = []
    with suppress(ConnectionClosed, TimeoutError):
        while True:
            async with asyncio.timeout(0.5):
                heard.append(str(await socket.recv()))
    return "\n".join(heard)


def everything_shown(stack: RunningStack) -> dict[str, str]:
    """Each log, each page of metrics, and the command line of each process of the stack."""
    found = {str(log): log.read_text(errors="replace") for log in (stack.data / "logs").rglob("*") if log.is_file()}
    for each in stack.processes:
        if each["opsPort"]:
            found[f"metrics of {each['name']}"] = httpx2.get(f"http://127.0.0.1:{each['opsPort']}/metrics").text
    pids = {pid for each in stack.processes for pid in family(process(stack, each["name"])["pid"])}
    for pid in {stack.supervisor, *pids}:
        with suppress(OSError):
            found[f"arguments of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return found


async def test_tokens_tickets_and_bodies_are_seen_nowhere_they_do_not_belong(stack: RunningStack, person):
    alice, bob = person("alice"), person("bob")
    room, body = alice.create(bob.user), f"canary-{new_id()}"
    brief = issue(stack.jwt_secret, alice.user, ttl_s=1)
    good = [issue(stack.jwt_secret, alice.user, ttl_s=90 + n) for n in range(5)]
    bad = [f"{good[0][:-6]}AAAAAA", f"not.a.token-{new_id()}", brief]
    tickets = [alice.http.post("/ws-ticket").json()["ticket"] for _ in range(2)]
    errors: list[str] = []

    async def connects(path: str = "", **more: Any) -> None:
        async with connect(stack.ws_url + path, proxy=None, **more) as socket:
            for said in (
                {"type": "join_conversation", "id": room, "after": 0},
                {"type": "auth.refresh", "token": good[1]},
                {"type": "auth.refresh", "token": bad[0]},
                {"type": "auth.refresh", "token": bad[1], "more": body},
                {"type": "ack", "conversationId": body, "seq": 1},
                {"type": body},
            ):
                with suppress(ConnectionClosed):
                    await socket.send(json.dumps(said))
            errors.extend(line for line in (await told(socket)).splitlines() if '"type":"error"' in line)

    message = f"/messages/{alice.send(room, body)['messageId']}"
    await asyncio.to_thread(until, lambda: bob.http.get(message).json()["status"] != "pending")
    await asyncio.gather(
        *(connects(additional_headers={"Authorization": f"Bearer {token}"}) for token in (good[2], *bad)),
        *(connects(subprotocols=["millrace.v1", f"bearer.{token}"]) for token in (good[3], *bad)),
        *(connects(f"?token={token}") for token in (good[4], *bad)),
        *(connects(f"?ticket={ticket}") for ticket in (tickets[0], tickets[0], tickets[1], good[0])),
    )
    for token in bad:
        headers = {"authorization": f"Bearer {token}"}
        errors += [bob.http.post(path, headers=headers).text for path in ("/ws-ticket", "/messages", f"/{token}")]
    for wrong in ({"content": body, "type": body}, {"conversationId": body, "clientMessageId": body}, {"text": body}):
        errors.append(bob.http.post("/messages", json=wrong).text)
    assert bob.http.get("/search", params={"q": body}).status_code == 200
    errors += [bob.http.get(path, params={"q": body, "limit": "x"}).text for path in ("/search", f"/{body}")]
    with httpx2.Client(base_url=stack.http_url) as stranger:  # a page has no token
        media = upload(alice, body.encode(), "a.txt")
        until(lambda: alice.http.post(f"/media/{media}/url").status_code == 201)  # once it was inspected
        url = str(alice.http.post(f"/media/{media}/url").json()["url"])
        assert stranger.get(url).text == body
        errors += [stranger.get(wrong).text for wrong in (url[:-1] + "_", url + "&part=original", url + "&expires=9")]
    assert len(errors) > 30
    seen = everything_shown(stack) | {f"error {n}": text for n, text in enumerate(errors)}
    assert len(seen) > 20
    signing = [url.rpartition("=")[2], DataDir(stack.data).secret("media")]
    secrets = [*good, *bad, *tickets, *signing, body, stack.jwt_secret, alice.token, bob.token]
    signatures = [token.rpartition(".")[2] for token in (*good, brief)]
    for where, text in seen.items():
        shown = [n for n, secret in enumerate((*secrets, *signatures)) if secret in text]
        assert not shown, f"{where} shows the secrets {shown}"
