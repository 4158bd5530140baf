"""Security events of both doors: who was refused what, and no token or title in any line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import connect

from domain.rates import Limit
from runtime import security_log as module
from runtime.security_log import SecurityLog
from tests.flow.api import open_api
from tests.flow.conftest import Client, World
from tests.issuers import Issuer

WRONG = "eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Whatever is logged, under a bound of its own."""
    fresh = SecurityLog()
    for name in ("_tokens", "_at", "_left_out"):
        monkeypatch.setattr(module.security_log, name, getattr(fresh, name))
    with structlog.testing.capture_logs() as captured:
        yield captured


def events(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "security_event"]


async def test_a_refused_token_a_refused_right_and_a_spent_budget_are_noted(tmp_path: Path, lines):
    async with open_api(tmp_path, limits={"requests": Limit(0.01, 1.0)}) as api:
        await api.call("listConversations", 401, user=None, headers={"authorization": f"Bearer {WRONG}"})
        await api.call("addMember", 403, user="bob", json={"userId": "dave"})
        await api.call("listConversations", 200, user="bob")
        await api.call("listConversations", 429, user="bob")
    token, right, budget = events(lines)
    assert (token["kind"], token["code"], token["address"]) == ("token_refused", "unauthenticated", "127.0.0.1")
    assert "user_id" not in token
    assert token["reason"] == "signature_invalid"
    assert (right["kind"], right["user_id"], right["method"]) == ("permission_refused", "bob", "POST")
    operations = ["listConversations", "addMember", "listConversations"]
    assert [line["operation"] for line in (token, right, budget)] == operations
    assert right["jti"] and right["stream"] == "security"
    assert (budget["kind"], budget["code"]) == ("limit_reached", "rate_limited")
    assert WRONG not in str(lines)


async def test_a_refused_socket_is_noted(world: World, lines):
    async with connect(f"ws://127.0.0.1:{world.port}/ws?token={WRONG}", compression=None) as socket:
        assert await Client(socket).closed() == 4401
    [refused] = events(lines)
    assert (refused["kind"], refused["result"]) == ("token_refused", "refused")
    assert refused["reason"] == "signature_invalid"
    assert WRONG not in str(lines)


@pytest.mark.parametrize("door", ["http", "socket", "refresh"])
async def test_the_reason_for_a_refused_token_is_in_the_log_and_not_in_the_answer(
    world: World, tmp_path: Path, lines, door: str
):
    token = Issuer().token({"kid": "k7"}, iss="https://other.example/")
    if door == "http":
        async with open_api(tmp_path) as api:
            headers = {"authorization": f"Bearer {token}"}
            answer = await api.call("listConversations", 401, user=None, headers=headers)
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            text = answer.text
            answer = await api.call("listConversations", 401, user=None)
            assert answer.headers["www-authenticate"] == "Bearer"
    elif door == "socket":
        async with connect(f"ws://127.0.0.1:{world.port}/ws?token={token}", compression=None) as socket:
            text = str(await Client(socket).next("error"))
    else:
        async with world.client("bob") as bob:
            await bob.say(type="auth.refresh", token=token)
            text = str(await bob.next("error"))
    refused, *_ = events(lines)
    claimed = {name: refused.get(name) for name in ("kind", "reason", "kid", "iss")}
    assert claimed == {
        "kind": "token_refused",
        "reason": "issuer_unexpected",
        "kid": "k7",
        "iss": "https://other.example/",
    }
    assert "issuer" not in text
    assert token not in str(lines)


async def test_who_changed_whose_membership_is_noted(tmp_path: Path, lines):
    async with open_api(tmp_path) as api:
        await api.call("addMember", 204, json={"userId": "dave"})
        await api.call("removeMember", 204, path={"userId": "dave"})
    added, removed = events(lines)
    assert (added["kind"], removed["kind"]) == ("member_added", "member_removed")
    for line in (added, removed):
        assert (line["user_id"], line["by"], line["result"]) == ("dave", "alice", "done")
        assert line["jti"] and line["conversation_id"]
