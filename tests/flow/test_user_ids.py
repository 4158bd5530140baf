"""User ids of the usual issuers on the socket: routed as text, whatever characters they have."""

from __future__ import annotations

import pytest

from adapters.memory.intake import MemoryConversations
from tests import make

USERS = ["auth0|5f7c8ec7c33c6c004bbafe82", "jane+chat@example.com", "a/b:c={d}}{%20#?", "x" * 255]


@pytest.mark.parametrize("user", USERS)
async def test_a_user_with_any_id_is_heard_and_hears(world, other, user: str):
    conversations = MemoryConversations(world.tables)
    await conversations.add(make.ROOM, user, "alice")  # 1
    async with world.client(user) as jane, other.client("alice") as alice:
        await alice.join(after=0)
        await jane.join(after=0)
        await jane.say(type="typing", conversationId=make.ROOM, isTyping=True)
        typing = await alice.next("typing")
        assert (typing["userId"], typing["isTyping"]) == (user, True)
        await conversations.remove(make.ROOM, user, "alice")  # 2
        await world.tell(2)
        assert (await jane.next("left"))["reason"] == "removed"
        gone = await alice.next("conversation_changed")
        while gone["change"] != "member_removed":
            gone = await alice.next("conversation_changed")
        assert gone["userId"] == user
