"""Presence: who learns of whom, when, and what a dead node leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.redis import MemoryRegistry
from domain import presence as signs
from domain.drafts import Accepted
from domain.errors import Unavailable
from domain.policy import Question, Verdict
from gateway import presence as desk
from schemas.ids import new_id
from tests import make

from .conftest import LEASE_S, Behind

EVERY_S = 0.8


@pytest.fixture(autouse=True)
async def all_have_written(behind: Behind) -> None:
    """Presence is shown where its user has written."""
    await write(behind, make.ROOM, "alice", "bob", "carol")


async def write(behind: Behind, room: str, *users: str) -> None:
    drafts = [make.draft(sender=user, conversationId=room) for user in users]
    assert all(isinstance(outcome, Accepted) for outcome in await MemoryIntake(behind.tables).accept(drafts))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time than in earnest."""
    monkeypatch.setattr(desk, "GRACE_S", 0.3)
    monkeypatch.setattr(signs, "PRESENCE_S", EVERY_S)


def seconds(said: dict) -> float:
    """How long ago ``lastSeen`` is."""
    return time.time() - datetime.fromisoformat(said["lastSeen"]).timestamp()


async def quiet(client) -> bool:
    """Whether nothing about presence has come, of all that was said before now."""
    await client.say(type="ping")
    return (await client.next("presence", "pong"))["type"] == "pong"


async def test_coming_and_going_is_told_over_nodes_with_the_time_of_the_end(world, other):
    async with world.client("alice") as alice:
        await alice.join()
        async with other.client() as bob:
            said = await alice.next("presence")
            assert (said["userId"], said["online"]) == ("bob", True)
            await bob.join()
            assert (await bob.next("presence"))["userId"] == "alice"
        gone = time.time()
        said = await alice.next("presence")
        assert (said["userId"], said["online"]) == ("bob", False)
        assert abs(time.time() - seconds(said) - gone) < 1
        assert datetime.fromisoformat(said["lastSeen"]).tzinfo == UTC


async def test_who_joins_learns_who_is_online_and_when_the_others_were(world):
    async with world.client("carol"):
        pass
    gone = time.time()
    async with world.client("alice"), world.client() as bob:
        await bob.join()
        alice, carol = await bob.next("presence"), await bob.next("presence")
        assert (alice["userId"], alice["online"]) == ("alice", True)
        assert (carol["userId"], carol["online"]) == ("carol", False)
        assert abs(time.time() - seconds(carol) - gone) < 1


async def test_a_second_device_is_no_news_and_a_quick_return_no_absence(world, other):
    async with world.client("alice") as alice:
        await alice.join()
        async with world.client():
            assert (await alice.next("presence"))["online"] is True
            async with other.client():
                pass
        async with other.client():
            await asyncio.sleep(desk.GRACE_S + 0.3)
            assert await quiet(alice)


async def test_who_comes_and_goes_all_the_time_is_told_of_once_in_a_while(world, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "GRACE_S", 0.01)
    async with world.client("alice") as alice:
        await alice.join()
        began, told = time.monotonic(), []

        async def watch() -> None:
            while True:
                told.append((await alice.next("presence"))["online"])

        watching = asyncio.create_task(watch())
        while time.monotonic() - began < EVERY_S + 0.5:
            async with world.client():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5 * EVERY_S):
            while not told or told[-1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        watching.cancel()
        assert len(told) <= 2 + (time.monotonic() - began) / EVERY_S


async def test_who_shares_nothing_learns_nothing(world):
    stranger = new_id()
    await MemoryConversations(world.tables).create(stranger, None, "eve", ["mallory"])
    async with world.client("eve") as eve, world.client("alice") as alice:
        await eve.say(type="join_conversation", id=stranger)
        await eve.next("joined")
        await alice.join()
        async with world.client():
            assert (await alice.next("presence"))["userId"] == "bob"
        assert await quiet(eve)


async def test_who_has_not_written_is_seen_by_nobody_until_then(world, behind):
    """Zoe has written: she is told of behind the victim when both are, so the wait for her ends."""
    room = new_id()
    await MemoryConversations(world.tables).create(room, "Your bank", "mallory", ["victim", "zoe"])
    await write(behind, room, "mallory", "zoe")

    async def look(client, until: str) -> list[str]:
        await client.say(type="join_conversation", id=room)
        seen = [(await client.next("presence"))["userId"]]
        while seen[-1] != until:
            seen.append((await client.next("presence"))["userId"])
        return seen

    async with world.client("zoe"), world.client("mallory") as mallory:
        async with world.client("victim") as victim:
            assert await look(mallory, "zoe") == ["zoe"]
            assert await look(victim, "zoe") == ["mallory", "zoe"], "who writes shows it to all members"
        presence = world.parts.leases.presence
        async with asyncio.timeout(5):
            for is_pending in (True, False):
                while ("victim" in presence.pending) is not is_pending:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert await quiet(mallory), "the victim came and went"
        await write(behind, room, "victim")
        assert await look(mallory, "zoe") == ["victim", "zoe"], "lastSeen is known from then on"
        async with world.client("victim"):
            said = await mallory.next("presence")
            assert (said["userId"], said["online"]) == ("victim", True)


async def test_who_left_and_came_back_is_seen_after_writing_again(world, behind):
    conversations = MemoryConversations(world.tables)
    await conversations.remove(make.ROOM, "bob", "bob")
    await conversations.add(make.ROOM, "bob", "alice")
    async with world.client("alice") as alice, world.client("bob"), world.client("carol"):
        await alice.join()
        assert (await alice.next("presence"))["userId"] == "carol"
        await write(behind, make.ROOM, "bob")
        await alice.join()
        assert (await alice.next("presence"))["userId"] == "bob"


class Silent:
    """A policy without an answer."""

    relates = ()

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        raise Unavailable("the policy of this deployment does not answer; try again")


async def test_a_policy_without_an_answer_shows_nobody_and_stops_nothing(behind):
    behind.policy = Silent()
    async with behind.node("silent") as world, world.client("alice") as alice, world.client():
        await alice.join()
        assert await quiet(alice)
        await world.send()
        assert (await alice.next("new_message"))["seq"] == 4


async def test_large_conversations_and_the_setting_turn_it_off(behind):
    for most in (2, 0):  # the room has three members
        async with behind.node(f"most-{most}", presence_max_members=most) as world, world.client("alice") as alice:
            await alice.join()
            async with world.client() as bob:
                await bob.join()
                assert await quiet(bob)
            await asyncio.sleep(desk.GRACE_S + 0.3)
            assert await quiet(alice)


async def test_a_node_that_was_killed_takes_its_users_offline_within_a_lease(world, behind):
    ghosts = MemoryRegistry(behind.places, "killed", lease_s=LEASE_S)
    async with world.client("alice") as alice:
        await ghosts.renew([])
        ghosts.put("c1", "bob")
        ghosts.put("c2", "alice")
        last = time.time()
        await alice.join()
        said = await alice.next("presence")
        assert (said["userId"], said["online"]) == ("bob", True)
        said = await alice.next("presence")
        assert (said["userId"], said["online"]) == ("bob", False)
        assert time.time() - last < LEASE_S + 1 + desk.GRACE_S + 1
        assert abs(time.time() - seconds(said) - last) < 0.5, "the last renewal is what was seen of him"
        assert await quiet(alice), "alice has another connection"


async def test_a_node_that_comes_back_under_its_name_does_not_revive_its_ghosts(behind):
    ghosts = MemoryRegistry(behind.places, "again", lease_s=30)
    await ghosts.renew([])
    ghosts.put("c1", "bob")
    async with behind.node("again") as world, world.client("alice") as alice:
        await alice.join()
        async with asyncio.timeout(3):
            while await world.parts.leases.registry.connected(["bob"]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_registry_that_forgot_everything_is_told_again(world, behind):
    async with world.client("alice"), world.client():
        behind.places.lives.clear()
        behind.places.held.clear()
        began = time.monotonic()
        async with asyncio.timeout(5):
            while await world.parts.leases.registry.connected(["alice", "bob"]) != {"alice", "bob"}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert time.monotonic() - began < world.parts.leases.lease_s / 3 + 1


async def test_who_came_and_went_while_redis_was_away_is_told_of_when_it_is_back(world, behind):
    async with world.client("alice") as alice:
        await alice.join()
        async with world.client():
            assert (await alice.next("presence"))["online"] is True
            behind.places.down = True
        async with world.client("carol"):
            await asyncio.sleep(0.1)
            behind.places.down = False
            told = {}
            while len(told) < 2:
                said = await alice.next("presence")
                told[said["userId"]] = said["online"]
            assert told == {"bob": False, "carol": True}
