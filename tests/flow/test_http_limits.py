"""Budgets of callers over HTTP: by action and cost, told in every answer, and bounds of callers without a token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from adapters.auth import issue
from domain.rates import Limit
from ingest.http import problems
from ingest.http.auth import Strangers
from schemas.fields import ACTIONS
from schemas.operations import Operation
from schemas.routes import OPERATIONS
from tests import make
from tests.flow.api import SECRET, Api, open_api

MESSAGE = {"conversationId": make.ROOM, "type": "text", "content": "hi"}
NOW = 1000.0
ACTION_OF = {
    "createConversation": "conversations",
    "addMember": "members",
    "removeMember": "members",
    "inviteMember": "members",
    "acceptInvitation": "members",
    "declineInvitation": "members",
    "sendMessage": "messages",
    "recordReceipt": "receipts",
    "searchMessages": "search",
    "issueTicket": "tickets",
    "createUpload": "uploads",
}


def token(user: str = "alice") -> dict[str, str]:
    return {"authorization": f"Bearer {issue(SECRET, user, ttl_s=60)}"}


async def use_up(api: Api, action: Any, user: str, limit: Limit) -> None:
    while (await api.rates.take(action, user, limit)).wait_s == 0:
        pass


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.access == "token"], ids=lambda operation: operation.id
)
async def test_a_call_beyond_its_budget_is_refused_and_no_other_is(tmp_path: Path, operation: Operation):
    limits = dict.fromkeys(ACTIONS, Limit(0.1, 3.0))
    async with open_api(tmp_path, limits=limits) as api:
        action = ACTION_OF.get(operation.id, "requests")
        await use_up(api, action, "alice", limits[action])
        answer = await api.call(operation.id, 429)
        assert 0 < int(answer.headers["retry-after"]) <= 10
        assert answer.headers["ratelimit-policy"] == f'"{action}";q=3;w=30'
        assert answer.headers["ratelimit"] == f'"{action}";r=0;t=30'
        assert operation.method == "HEAD" or answer.json()["code"] == "rate_limited"
        assert {key for key in api.rates.buckets if key[1] == "alice"} == {(action, "alice")}
        await api.call("getConversation", 200, user="bob")


async def test_a_refusal_is_told_late_and_makes_nobody_else_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(problems, "REFUSAL_S", 1.5)
    limit, clock = Limit(0.1, 3.0), asyncio.get_running_loop().time
    async with open_api(tmp_path, limits={"requests": limit}) as api:
        await use_up(api, "requests", "alice", limit)
        began = clock()
        refused = [asyncio.create_task(api.call("getConversation", 429)) for _ in range(20)]
        await api.call("getConversation", 200, user="bob")
        await api.call("sendMessage", 201, json=MESSAGE)  # by the one who is refused elsewhere
        assert not any(call.done() for call in refused)
        await asyncio.gather(*refused)
        assert clock() - began >= 1.5


async def test_every_answer_tells_what_is_left(tmp_path: Path):
    async with open_api(tmp_path, limits={"requests": Limit(1.0, 10.0), "messages": Limit(0.5, 5.0)}) as api:
        api.rates.clock = lambda: NOW
        answers = [
            await api.call("getConversation", 200),
            await api.call("getMessage", 404),
            await api.call("sendMessage", 201, json=MESSAGE),
            await api.call("sendMessage", 422, json={}),
            await api.call("listInvitations", 200),
        ]
        assert [(answer.headers["ratelimit-policy"], answer.headers["ratelimit"]) for answer in answers] == [
            ('"requests";q=10;w=10', '"requests";r=9;t=1'),
            ('"requests";q=10;w=10', '"requests";r=8;t=2'),
            ('"messages";q=5;w=10', '"messages";r=4;t=2'),
            ('"messages";q=5;w=10', '"messages";r=3;t=4'),
            ('"requests";q=10;w=10', '"requests";r=7;t=3'),
        ]
        assert "ratelimit" not in (await api.call("searchMessages", 200, params={"q": "x"})).headers


async def test_an_answer_to_a_bug_tells_it_too(tmp_path: Path):
    class Broken:
        async def search(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    async with open_api(tmp_path, limits={"search": Limit(1.0, 10.0)}, search=Broken()) as api:
        answer = await api.call("searchMessages", 500, params={"q": "x"})
        assert answer.headers["ratelimit"] == '"search";r=9;t=1'


async def test_members_are_paid_for_one_by_one(tmp_path: Path):
    limits = {"conversations": Limit(1.0, 10.0), "members": Limit(1.0, 60.0)}
    async with open_api(tmp_path, limits=limits) as api:
        api.rates.clock = lambda: NOW
        answer = await api.call("createConversation", 201, json={"members": [f"m{n}" for n in range(40)]})
        assert answer.headers["ratelimit"] == '"conversations";r=9;t=1, "members";r=20;t=40'
        refused = await api.call("createConversation", 429, json={"members": [f"m{n}" for n in range(30)]})
        assert int(refused.headers["retry-after"]) == 10
        assert "more than 60 members a minute" in refused.json()["detail"]
        await api.call("createConversation", 201, json={"members": [f"m{n}" for n in range(20)]})
        await api.call("addMember", 429, json={"userId": "dave"})
        await api.call("createConversation", 201, user="bob", json={"members": [f"m{n}" for n in range(500)]})
        assert (await api.call("addMember", 429, user="bob", json={"userId": "dave"})).headers["retry-after"] == "441"


async def test_the_caller_reads_all_budgets(tmp_path: Path):
    limits = {"requests": Limit(30.0, 120.0), "messages": Limit(10.0, 50.0)}
    async with open_api(tmp_path, limits=limits, factors={"importer": 20.0, "free": 0.0}) as api:
        api.rates.clock = lambda: NOW
        for _ in range(15):
            await api.call("sendMessage", 201, json=MESSAGE)

        async def read(user: str) -> dict[str, dict[str, Any]]:
            budgets = (await api.call("getLimits", 200, user=user)).json()["limits"]
            return {budget.pop("action"): budget for budget in budgets}

        mine = await read("alice")
        assert list(mine) == list(ACTIONS)
        assert mine["messages"] == {"limit": 50, "perMinute": 600.0, "remaining": 35, "resetSeconds": 2}
        assert mine["requests"] == {"limit": 120, "perMinute": 1800.0, "remaining": 119, "resetSeconds": 1}
        none = {"limit": None, "perMinute": None, "remaining": None, "resetSeconds": 0}
        assert mine["search"] == none
        assert (await read("importer"))["messages"]["limit"] == 1000
        assert set(map(str, (await read("free")).values())) == {str(none)}


async def test_callers_without_a_token_are_bounded_by_their_address_and_valid_ones_pass(tmp_path: Path):
    """The address is that of the client also behind a proxy: the server's protocol sees to that."""
    async with open_api(tmp_path, strangers=Strangers(Limit(0.5, 5.0), lambda: NOW)) as api:

        async def get(address: str, headers: dict[str, str]) -> httpx2.Response:
            transport = httpx2.ASGITransport(api.app, client=(address, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
                return await http.get("/conversations", headers=headers)

        async def bad(address: str) -> list[int]:
            return [(await get(address, {"authorization": "Bearer x.y.z"})).status_code for _ in range(7)]

        assert await bad("192.0.2.1") == [401] * 5 + [429] * 2
        assert await bad("2001:db8::1") == [401] * 5 + [429] * 2
        assert await bad("2001:db8::2") == [429] * 7
        refused = await get("192.0.2.1", {})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert "ratelimit" not in refused.headers
        assert (await get("192.0.2.1", token())).status_code == 200


async def test_one_user_searches_one_at_a_time_and_holds_nobody_else_up(tmp_path: Path):
    go = asyncio.Event()

    class Slow:
        running = 0

        async def search(self, user: str, *_: Any, **__: Any) -> list[Any]:
            if user == "alice":
                self.running += 1
                assert self.running == 1
                await go.wait()
                self.running -= 1
            return []

        async def similar(self, _: Any) -> dict[str, Any]:
            return {}

    async with open_api(tmp_path, search=Slow()) as api:
        storm = [asyncio.create_task(api.http.get("/search?q=x", headers=token())) for _ in range(30)]
        async with asyncio.timeout(5):
            while sum(task.done() for task in storm) < 25:  # noqa: ASYNC110 - an answer has no event
                await asyncio.sleep(0.01)
            for _ in range(5):
                await api.call("searchMessages", 200, user="bob", params={"q": "x"})
            go.set()
            answers = await asyncio.gather(*storm)
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 25
        assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}


async def test_refused_calls_are_counted_by_their_code(tmp_path: Path):
    def counted(code: str) -> float:
        return REGISTRY.get_sample_value("millrace_refused_requests_total", {"code": code}) or 0.0

    async with open_api(tmp_path, limits={"search": Limit(0.001, 1.0)}) as api:
        before = {code: counted(code) for code in ("unauthenticated", "not_found", "invalid", "rate_limited")}
        await api.call("getConversation", 401, user=None)
        await api.call("getMessage", 404)
        await api.call("sendMessage", 422, json={})
        for status in (200, 429, 429):
            await api.call("searchMessages", status, params={"q": "x"})
        assert {code: counted(code) - was for code, was in before.items()} == {
            "unauthenticated": 1,
            "not_found": 1,
            "invalid": 1,
            "rate_limited": 2,
        }
