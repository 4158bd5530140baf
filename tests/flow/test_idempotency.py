"""Calls whose answer was lost, sent again as the client must: one effect, and the first answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Unavailable
from schemas.ids import new_id
from tests import make
from tests.flow.api import Api, open_api

KEY = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
QUOTED = {"idempotency-key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
MESSAGE = {"conversationId": make.ROOM, "type": "text", "content": "hi"}
PLANS = {"title": "plans", "members": ["bob"]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("again", [KEY, QUOTED], ids=["bare", "quoted"])
@pytest.mark.parametrize(("operation", "body", "other"), [
    ("createConversation", PLANS, {**PLANS, "title": "Plans"}),
    ("sendMessage", MESSAGE, {**MESSAGE, "content": "ho"}),
])  # fmt: skip
async def test_a_repetition_finds_what_was_created(api: Api, operation: str, body: Any, other: Any, again: Any):
    first = await api.call(operation, 201, headers=KEY, json=body)
    repeated = await api.call(operation, 200, headers=again, json=body)
    assert repeated.json() == first.json()
    assert repeated.headers["location"] == first.headers["location"]
    assert repeated.headers["location"].startswith("/")
    assert repeated.headers["idempotent-replayed"] == "true"
    assert (await api.problem(operation, 422, headers=again, json=other))["code"] == "idempotency_mismatch"
    await api.call(operation, 201, user="bob", headers=KEY, json=body)


async def test_equivalent_spellings_are_the_same_creation(api: Api):
    first = await api.call("createConversation", 201, headers=KEY, json={"title": "Zo\u00eb"})
    again = await api.call("createConversation", 200, headers=KEY, json={"title": "Zoe\u0308"})
    assert again.json()["conversationId"] == first.json()["conversationId"]


async def test_two_creations_at_the_same_time_make_one_conversation(api: Api):
    calls = [api.http.post("/conversations", json=PLANS, headers={**KEY, **api.token("alice")}) for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 201]
    assert len({answer.json()["conversationId"] for answer in answers}) == 1


async def test_an_id_of_ones_own_is_a_key_too(api: Api):
    body = {**PLANS, "conversationId": new_id()}
    await api.call("createConversation", 201, json=body)
    await api.call("createConversation", 200, json=body)
    await api.problem("createConversation", 409, json={**body, "title": "Plans"})
    await api.problem("createConversation", 409, user="eve", json=body)


@pytest.mark.parametrize("operation", ["addMember", "inviteMember"])
async def test_a_repetition_has_no_effect_of_its_own(api: Api, operation: str):
    body = {"userId": "dave"}
    first = await api.call(operation, 204 if operation == "addMember" else 202, headers=KEY, json=body)
    assert "idempotent-replayed" not in first.headers
    await api.call("removeMember", 204, path={"userId": "dave"})
    head = api.tables.conversations[make.ROOM].last_seq
    again = await api.call(operation, first.status_code, headers=QUOTED, json=body)
    assert again.headers["idempotent-replayed"] == "true"
    assert api.tables.conversations[make.ROOM].last_seq == head, "who was removed meanwhile stays removed"
    await api.call(operation, first.status_code, headers={"idempotency-key": new_id()}, json=body)
    assert api.tables.conversations[make.ROOM].last_seq == head + 1


async def test_a_key_is_for_one_request(api: Api):
    await api.call("addMember", 204, headers=KEY, json={"userId": "dave"})
    other = await api.problem("addMember", 422, headers=KEY, json={"userId": "erin"})
    assert other["code"] == "idempotency_mismatch"
    room = (await api.call("createConversation", 201, json={})).json()["conversationId"]
    await api.problem("addMember", 422, headers=KEY, path={"id": room}, json={"userId": "dave"})
    await api.problem("inviteMember", 422, headers=KEY, json={"userId": "dave"})


async def test_an_invitation_that_was_accepted_is_accepted_again(api: Api):
    await api.call("inviteMember", 202, json={"userId": "dave"})
    await api.call("acceptInvitation", 204, user="dave", headers=KEY)
    await api.call("removeMember", 204, user="dave", path={"userId": "dave"})
    await api.call("acceptInvitation", 204, user="dave", headers=KEY)
    await api.problem("acceptInvitation", 404, user="dave")


async def test_a_refusal_is_not_remembered(api: Api):
    await api.problem("addMember", 403, user="bob", headers=KEY, json={"userId": "dave"})
    await api.problem("addMember", 403, user="bob", headers=KEY, json={"userId": "erin"})


class Forgetful:
    """Keys that cannot be kept."""

    async def find(self, *_: Any) -> None:
        return None

    async def keep(self, *_: Any) -> None:
        raise Unavailable("away")


async def test_what_is_done_is_answered_though_its_key_is_not_kept(tmp_path: Path):
    async with open_api(tmp_path, keys=Forgetful()) as api:
        for _ in range(2):
            await api.call("addMember", 204, headers=KEY, json={"userId": "dave"})
        assert api.tables.conversations[make.ROOM].last_seq == 1


@pytest.mark.parametrize(
    "key",
    ["", " ", "a b", "caf\u00e9", '"a', '"', '""', '"a b"', '"a";p=1', 'a"b"c' * 30, "x" * 129, '"' + "x" * 129 + '"'],
)
@pytest.mark.parametrize("operation", ["createConversation", "sendMessage", "addMember"])
async def test_a_key_of_another_form_is_refused(api: Api, operation: str, key: str):
    body = {"createConversation": PLANS, "sendMessage": MESSAGE, "addMember": {"userId": "dave"}}[operation]
    problem = await api.problem(operation, 422, headers={"idempotency-key": key.encode("latin-1")}, json=body)
    assert problem["errors"][0]["path"] == "Idempotency-Key"


async def test_two_keys_are_none(api: Api):
    headers = [*api.token("alice").items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
    answer = await api.http.post("/messages", json=MESSAGE, headers=headers)
    assert answer.status_code == 422


async def test_quotes_are_no_part_of_a_key(api: Api):
    await api.call("sendMessage", 201, json={**MESSAGE, "clientMessageId": 'a"\\b'})
    await api.call("sendMessage", 200, headers={"idempotency-key": '"a\\"\\\\b"'}, json=MESSAGE)
