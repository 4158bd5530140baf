"""Consent over HTTP, on the twins and on PostgreSQL: who may take whom into a conversation, and what each then sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.invitations import PostgresInvitations
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.pool import open_pool
from domain.errors import Unavailable
from domain.policies import CompanyPolicy, PublicPolicy
from domain.policy import Action, Policy, Question, Verdict
from ingest.accept import Accept
from schemas.ids import new_id
from tests.flow.api import Api, open_api

POLICIES: dict[str, Policy] = {"company": CompanyPolicy(), "public": PublicPolicy()}


@dataclass
class Stage:
    """The API under a policy. Names are of this test alone."""

    api: Api
    mark: str

    def user(self, name: str) -> str:
        return f"{name}.{self.mark}"

    async def create(self, owner: str, *members: str, expect: int = 201, **more: Any) -> Any:
        body = {"members": [self.user(member) for member in members], **more}
        return (await self.api.call("createConversation", expect, user=self.user(owner), json=body)).json()

    async def add(self, room: str, user: str, expect: int, *, by: str = "owner", call: str = "addMember") -> Any:
        json = {"userId": self.user(user)}
        return await self.api.call(call, expect, user=self.user(by), path={"id": room}, json=json)

    async def leave(self, room: str, user: str, *, by: str | None = None) -> None:
        path = {"id": room, "userId": self.user(user)}
        await self.api.call("removeMember", 204, user=self.user(by or user), path=path)

    async def answer(self, room: str, user: str, answer: str, expect: int = 204) -> None:
        await self.api.call(f"{answer}Invitation", expect, user=self.user(user), path={"id": room})

    async def say(self, room: str, user: str, expect: int = 201) -> None:
        json = {"conversationId": room, "type": "text", "content": "hi"}
        await self.api.call("sendMessage", expect, user=self.user(user), json=json)

    async def stand(self, room: str, standing: str) -> None:
        """Bring the victim into this standing to the owner's conversation."""
        if standing == "stranger":
            return
        if standing == "acquaintance":
            common = (await self.create("victim"))["conversationId"]
            await self.add(common, "owner", 202, by="victim", call="inviteMember")
            await self.answer(common, "owner", "accept")
            await self.say(common, "victim")
            return
        await self.add(room, "victim", 202, call="inviteMember")
        if standing == "declined":
            await self.answer(room, "victim", "decline")
        elif standing != "invited":
            await self.answer(room, "victim", "accept")
            if standing == "left":
                await self.leave(room, "victim")
            elif standing == "removed":
                await self.leave(room, "victim", by="owner")


@asynccontextmanager
async def open_stage(
    store: str, policy: Policy, folder: Path, dsn: Callable[[], str], **more: Any
) -> AsyncIterator[Stage]:
    if store == "memory":
        async with open_api(folder, policy=policy, **more) as api:
            yield Stage(api, new_id()[-12:])
        return
    async with open_pool(dsn()) as pool:
        invitations = PostgresInvitations(pool)
        real = {
            "accept": Accept(PostgresIntake(pool), lambda _: None),
            "history": PostgresHistory(pool),
            "message_store": PostgresMessages(pool),
            "conversations": PostgresConversations(pool),
            "invitations": invitations,
            "relations": invitations,
        }
        async with open_api(folder, policy=policy, **real, **more) as api:
            yield Stage(api, new_id()[-12:])


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Any:
    """Opens the API under a policy."""

    def with_policy(policy: Policy, **more: Any) -> Any:
        dsn = partial(request.getfixturevalue, "pg_dsn")
        return open_stage(store, policy, tmp_path, dsn, **more)

    return with_policy


TABLE = """
victim       | company: add invite create | public: add invite create
stranger     |          204 202    member |         202 202    invited
acquaintance |          204 202    member |         204 202    member
invited      |          202 202    member |         202 202    invited
declined     |          204 403    member |         403 403    403
member       |          204 204    member |         204 204    invited
left         |          403 202    member |         202 202    invited
removed      |          204 202    member |         202 202    invited
"""
LINES = [[cell.split() for cell in line.split("|")] for line in TABLE.strip().splitlines()[1:]]


@pytest.mark.parametrize("name", POLICIES)
async def test_what_the_owner_may_do_to_the_victim_and_what_the_victim_then_sees(opened, name: str):
    async with opened(POLICIES[name]) as stage:
        for [standing], *columns in LINES:
            add, invite, create = columns[list(POLICIES).index(name)]
            for call, expect in (("addMember", add), ("inviteMember", invite)):
                stage.mark = new_id()[-12:]
                room = (await stage.create("owner", title="Room"))["conversationId"]
                await stage.stand(room, standing)
                await stage.add(room, "victim", int(expect), call=call)
                is_member = expect == "204"
                open_invitations = (await stage.api.call("listInvitations", 200, user=stage.user("victim"))).json()
                is_invited = room in [each["conversationId"] for each in open_invitations["invitations"]]
                assert is_invited == (expect == "202"), (standing, call)
                victim, path = stage.user("victim"), {"id": room}
                status = 200 if is_member else 404
                await stage.api.call("getConversation", status, user=victim, path=path)
                await stage.api.call("listMessages", status, user=victim, path=path)
                await stage.say(room, "victim", 201 if is_member else 404)
            stage.mark = new_id()[-12:]
            room = (await stage.create("owner"))["conversationId"]
            await stage.stand(room, standing)
            if create == "403":
                problem = await stage.create("owner", "victim", expect=403)
                assert problem["code"] == "forbidden"
                continue
            made = await stage.create("owner", "victim")
            who = {"member": made["members"], "invited": made["invited"]}
            assert [key for key, users in who.items() if stage.user("victim") in users] == [create], standing


@pytest.mark.parametrize("name", POLICIES)
async def test_only_the_owner_takes_others_in_and_strangers_learn_nothing(opened, name: str):
    async with opened(POLICIES[name]) as stage:
        room = (await stage.create("owner"))["conversationId"]
        await stage.stand(room, "member")
        for call in ("addMember", "inviteMember"):
            await stage.add(room, "another", 403, by="victim", call=call)
            problems = [
                (await stage.add(id_, "victim", 404, by="stranger", call=call)).json() for id_ in (room, new_id())
            ]
            assert problems[0] == problems[1]


async def test_who_left_a_company_conversation_is_told_of_in_words_and_comes_back_by_accepting(opened):
    async with opened(CompanyPolicy()) as stage:
        room = (await stage.create("owner"))["conversationId"]
        await stage.stand(room, "left")
        problem = (await stage.add(room, "victim", 403)).json()
        assert problem["code"] == "forbidden"
        assert "has left the conversation" in problem["detail"]
        await stage.add(room, "victim", 202, call="inviteMember")
        await stage.add(room, "victim", 202)  # adding does not answer for the victim
        await stage.answer(room, "victim", "accept")
        await stage.add(room, "victim", 204)


async def test_the_answers_to_an_invitation_may_be_given_twice(opened):
    async with opened(PublicPolicy()) as stage:
        room = (await stage.create("owner", "victim", "other", title="Tea"))["conversationId"]
        page = (await stage.api.call("listInvitations", 200, user=stage.user("victim"))).json()
        [entry] = page["invitations"]
        assert {key: entry[key] for key in ("conversationId", "title", "invitedBy", "memberCount")} == {
            "conversationId": room,
            "title": "Tea",
            "invitedBy": stage.user("owner"),
            "memberCount": 1,
        }
        for user, answer in (("victim", "accept"), ("other", "decline")):
            for _ in range(2):
                await stage.answer(room, user, answer)
        await stage.answer(room, "other", "accept", 404)
        read = (await stage.api.call("getConversation", 200, user=stage.user("owner"), path={"id": room})).json()
        assert [member["userId"] for member in read["members"]] == sorted([stage.user("owner"), stage.user("victim")])
        assert read["invited"] == []


async def test_open_invitations_are_listed_in_pages(opened):
    async with opened(PublicPolicy()) as stage:
        rooms = [(await stage.create(f"owner{n}", "victim"))["conversationId"] for n in range(3)]
        victim = stage.user("victim")
        first = (await stage.api.call("listInvitations", 200, user=victim, params={"limit": 2})).json()
        query = {"limit": 2, "cursor": first["next"]}
        rest = (await stage.api.call("listInvitations", 200, user=victim, params=query)).json()
        listed = [each["conversationId"] for page in (first, rest) for each in page["invitations"]]
        assert (listed, rest["next"]) == (rooms[::-1], None)
        await stage.api.call("listInvitations", 422, user=victim, params={"cursor": "nonsense"})


async def test_open_invitations_of_one_user_are_bounded(opened):
    async with opened(PublicPolicy(), most_invitations=2) as stage:
        await stage.create("owner", "a", "b")
        problem = await stage.create("owner", "c", expect=409)
        assert "at most 2 invitations" in problem["detail"]
        room = (await stage.create("owner"))["conversationId"]
        await stage.add(room, "c", 409)


async def test_a_repeated_creation_finds_the_first_and_a_taken_id_tells_nothing(opened):
    async with opened(CompanyPolicy()) as stage:
        room = new_id()
        first = await stage.create("owner", "victim", conversationId=room, title=" A\u202e room ")
        again = await stage.create("owner", "victim", "victim", expect=200, conversationId=room, title="A room")
        assert again == first
        await stage.leave(room, "victim")
        later = await stage.create("owner", "victim", expect=200, conversationId=room, title="A room")
        assert (later["members"], later["headSeq"]) == ([stage.user("owner")], 1)
        await stage.create("member", conversationId=new_id())
        await stage.add(room, "member", 204)
        problems = [
            await stage.create("owner", conversationId=room, expect=409),
            await stage.create("owner", "victim", title="Another", conversationId=room, expect=409),
            *[
                await stage.create(user, "victim", title="A room", conversationId=room, expect=409)
                for user in ("member", "victim", "stranger")
            ],
        ]
        assert all(problem == problems[0] for problem in problems)


async def test_a_creation_with_a_key_is_made_once(opened):
    async with opened(CompanyPolicy()) as stage:

        async def create(user: str, key: str, expect: int, **body: Any) -> Any:
            headers = {"idempotency-key": key}
            return await stage.api.call("createConversation", expect, user=user, json=body, headers=headers)

        owner, key = stage.user("owner"), new_id()
        first, again = await create(owner, key, 201), await create(owner, key, 200)
        assert first.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"
        assert (await create(owner, key, 422, title="another")).json()["code"] == "idempotency_mismatch"
        others = [(await create(*who, 201)).json() for who in ((stage.user("other"), key), (owner, new_id()))]
        assert len({each["conversationId"] for each in (first.json(), *others)}) == 3
        await create(owner, "not a key", 422)


async def test_creations_with_one_key_at_the_same_time_make_one(opened):
    async with opened(CompanyPolicy()) as stage:
        token, key = stage.api.token(stage.user("owner")), new_id()
        headers = {**token, "idempotency-key": key}
        calls = [stage.api.http.post("/conversations", json={"title": "plans"}, headers=headers) for _ in range(6)]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
        assert len({answer.json()["conversationId"] for answer in answers}) == 1


@pytest.mark.parametrize("older", [True, False])
async def test_what_was_said_before_is_asked_of_the_policy_when_a_member_joins(opened, older: bool):
    async with opened(CompanyPolicy(older_history=older)) as stage:
        room = (await stage.create("owner"))["conversationId"]
        await stage.say(room, "owner")
        for user in ("added", "invited"):
            if user == "added":
                await stage.add(room, user, 204)
            else:
                await stage.add(room, user, 202, call="inviteMember")
                await stage.answer(room, user, "accept")
            for query in ({}, {"after": 0}, {"before": 2}):
                page = await stage.api.call("listMessages", 200, user=stage.user(user), path={"id": room}, params=query)
                assert [message["seq"] for message in page.json()["messages"]] == ([1] if older else [])
                assert page.json()["hasMore"] is False


class Failing:
    """A policy that gives no answer to one action, and follows the company's in all others."""

    def __init__(self, action: Action) -> None:
        self.action, self.usual = action, CompanyPolicy()
        self.relates = self.usual.relates

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        if any(question.action is self.action for question in questions):
            raise Unavailable("the policy of this deployment does not answer; try again")
        return await self.usual.may(questions)


@pytest.mark.parametrize("action", [Action.CREATE, Action.ADD, Action.INVITE, Action.WRITE, Action.READ_OLDER])
async def test_a_policy_that_does_not_answer_refuses_what_asks_it_and_leaves_nothing_behind(opened, action: Action):
    async with opened(Failing(action)) as stage:
        if action is Action.CREATE:
            room = new_id()
            await stage.create("owner", "victim", conversationId=room, expect=503)
            assert (await stage.create("owner", conversationId=room))["members"] == [stage.user("owner")]
            return
        room = (await stage.create("owner"))["conversationId"]
        refused = {
            Action.ADD: lambda: stage.add(room, "victim", 503),
            Action.INVITE: lambda: stage.add(room, "victim", 503, call="inviteMember"),
            Action.WRITE: lambda: stage.say(room, "owner", 503),
            Action.READ_OLDER: lambda: stage.add(room, "victim", 503),
        }
        await refused[action]()
        read = (await stage.api.call("getConversation", 200, user=stage.user("owner"), path={"id": room})).json()
        assert (len(read["members"]), read["headSeq"], read["invited"]) == (1, 0, [])
