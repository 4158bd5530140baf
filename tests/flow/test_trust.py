"""What newcomers and invited users get on the socket, and processes without their policy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters.memory.intake import MemoryConversations
from adapters.memory.invitations import MemoryInvitations
from domain.policy import Standing
from tests import make

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("process", ["ingest", "gateway"])
def test_a_process_does_not_start_without_its_policy(process: str):
    ran = subprocess.run(
        [sys.executable, "-m", process],
        env={"MILLRACE_POLICY__KIND": "no_such_module_at_all:factory", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert ran.returncode == 78
    assert "settings_invalid" in ran.stdout + ran.stderr
    assert "no_such_module_at_all" in ran.stdout + ran.stderr


async def add(world, user: str, *, reads_older: bool = False) -> None:
    await MemoryConversations(world.tables).add(make.ROOM, user, "alice", reads_older=reads_older)


async def test_a_newcomer_is_replayed_one_frame_in_place_of_what_was_said_before(world):
    for _ in range(3):
        await world.send()
    await add(world, "dave")
    await world.send()
    async with world.client("dave") as dave:
        await dave.say(type="join_conversation", id=make.ROOM, after=0, ref=1)
        frames = [await dave.next() for _ in range(4)]
        assert [frame["type"] for frame in frames] == [
            "history_hidden",
            "conversation_changed",
            "new_message",
            "joined",
        ]
        assert frames[0] == {"type": "history_hidden", "conversationId": make.ROOM, "from": 0, "seq": 3}
        assert [frame["seq"] for frame in frames] == [3, 4, 5, 5]
        await world.send()
        assert await dave.seqs(1) == [6]
        assert await dave.join(after=4) == [5, 6], "nothing is hidden after that"


async def test_a_newcomer_with_an_old_cursor_is_led_to_the_present(world):
    for _ in range(3):
        await world.send()
    await MemoryConversations(world.tables).remove(make.ROOM, "carol", "carol")  # 4
    await world.send()
    await add(world, "carol")  # 6
    async with world.client("carol") as carol:
        await carol.say(type="join_conversation", id=make.ROOM, after=2)
        hidden = await carol.next("history_hidden", "new_message")
        assert (hidden["from"], hidden["seq"]) == (2, 5)
        assert (await carol.next("conversation_changed", "new_message"))["seq"] == 6


async def test_a_newcomer_who_may_read_it_is_replayed_everything(world):
    await world.send()
    await add(world, "dave", reads_older=True)
    async with world.client("dave") as dave:
        assert await dave.join(after=0) == [1, 2]


async def test_an_invited_user_joins_nothing_until_accepting(world):
    invitations = MemoryInvitations(world.tables)
    await invitations.invite(make.ROOM, "dave", "alice", seen=Standing.STRANGER)
    await world.send()
    async with world.client("dave") as dave, world.client("alice") as alice:
        await dave.say(type="join_conversation", id=make.ROOM, after=0)
        refused = await dave.next("error", "joined", "new_message")
        assert (refused["type"], refused["code"]) == ("error", "not_found")
        await alice.say(type="join_conversation", id=make.ROOM, after=0)
        invited = await alice.next("conversation_changed")
        assert (invited["change"], invited["userId"], invited["seq"]) == ("member_invited", "dave", 1)
        await invitations.accept(make.ROOM, "dave")
        await world.tell(3)
        await dave.say(type="join_conversation", id=make.ROOM, after=0)
        assert [(await dave.next("new_message", "conversation_changed"))["seq"] for _ in range(3)] == [1, 2, 3]
