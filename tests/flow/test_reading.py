"""Effects of reading: counts, statuses, notifications and what the other devices hear, the whole way in one
process."""

from __future__ import annotations

import orjson

from adapters.memory.intake import MemoryConversations
from adapters.memory.notifications import MemoryInbox
from domain.conversations import Summary
from gateway.channels import Kind
from gateway.channels import opened as envelope_of
from schemas.messages import ChangeKind
from tests import make
from tests.flow.test_pipeline import Mill, opened


async def say(mill: Mill, *contents: str, sender: str = "alice") -> list[str]:
    """Send messages; return their ids. The stages have not seen them yet."""
    accepted = [await mill.accept(make.draft(content, sender=sender)) for content in contents]
    return [each.message.message_id for each in accepted]


async def rest(mill: Mill) -> None:
    """Work until nothing new is in the log: an answer makes a receipt, and that a status."""
    before = -1
    while len(mill.log.records) != before:
        before = len(mill.log.records)
        await mill.turn()


async def line(mill: Mill, user: str) -> Summary:
    [found] = await MemoryConversations(mill.tables).mine(user, None, 5)
    return found


async def unseen(mill: Mill, user: str) -> list[int]:
    page = await MemoryInbox(mill.notifications).page(user, unseen=True, before=None, limit=50)
    return [notification.message.seq for notification in page]


def heard(mill: Mill, user: str) -> list[tuple[str, str, int]]:
    """The watermarks that a user's devices were sent: (whose, status, read seq)."""
    frames = [orjson.loads(envelope_of(data).frame) for channel, data in mill.published if f"user:{user}:" in channel]
    return [(f["userId"], f["status"], f["readSeq"]) for f in frames if f["type"] == "message_status"]


async def test_who_joins_late_has_unread_what_was_said_since():
    mill = await opened()
    await say(mill, *(f"old {n}" for n in range(40)))
    await MemoryConversations(mill.tables).add(make.ROOM, "dave", by="alice")
    await rest(mill)
    assert ((await line(mill, "dave")).unread, await unseen(mill, "dave")) == (0, [])
    await say(mill, "new")
    await rest(mill)
    assert ((await line(mill, "dave")).unread, await unseen(mill, "dave")) == (1, [42])
    assert [c.kind for c in mill.tables.changes[make.ROOM]].count(ChangeKind.MEMBER_ADDED) == 1


async def test_who_answers_has_read_and_the_others_hear_of_it():
    mill = await opened()
    ids = await say(mill, "one", "two")
    ids += await say(mill, "three", sender="carol")
    await rest(mill)
    assert await unseen(mill, "bob") == [3, 2, 1]
    mill.published.clear()
    await say(mill, "an answer", sender="bob")
    assert (await line(mill, "bob")).unread == 0, "before any stage has seen it"
    assert await unseen(mill, "bob") == []
    await rest(mill)
    assert [mill.tables.messages[id_].status for id_ in ids] == ["read"] * 3
    for user in ("alice", "bob", "carol"):
        assert ("bob", "read", 4) in heard(mill, user)
    assert mill.tables.receipts[make.ROOM, "bob"] == (4, 4)


async def test_a_monologue_makes_no_receipts_and_an_answer_only_one():
    mill = await opened()
    await say(mill, *"abc")
    await rest(mill)
    assert mill.log.events("receipt.recorded") == []
    await say(mill, *"def", sender="bob")
    await rest(mill)
    assert [(e.user_id, e.read_seq) for e in mill.log.events("receipt.recorded")] == [("bob", 4)]
    await mill.read_by("alice", 6)
    await rest(mill)
    await say(mill, "read before", sender="alice")
    await rest(mill)
    assert [e.user_id for e in mill.log.events("receipt.recorded")] == ["bob", "alice"], "the receipt of the call"


async def test_reading_on_one_device_closes_the_notifications_and_tells_the_others():
    mill = await opened()
    await say(mill, "one", "two", "three")
    await rest(mill)
    assert (await unseen(mill, "bob"), (await line(mill, "bob")).unread) == ([3, 2, 1], 3)
    mill.published.clear()
    await mill.read_by("bob", 2)
    assert (await unseen(mill, "bob"), (await line(mill, "bob")).unread) == ([3], 1)
    assert ("bob", "read", 2) in heard(mill, "bob")
    assert await unseen(mill, "carol") == [3, 2, 1]


async def test_a_notification_that_comes_after_its_message_was_read_is_not_made():
    mill = await opened()
    await say(mill, "one")
    [status, notification, *_] = mill.stages
    await mill.relay()
    await mill._work(status)
    mill.tables.receipts[make.ROOM, "bob"] = (1, 1)
    await mill._work(notification)
    assert await unseen(mill, "bob") == []
    assert {e.user_id for e in mill.log.events("notification.sent")} == {"carol"}


async def test_what_is_published_again_answers_nothing_twice():
    mill = await opened()
    await say(mill, "one")
    await say(mill, "two", sender="bob")
    await rest(mill)
    receipts, statuses = len(mill.log.events("receipt.recorded")), len(mill.log.events("message.status"))
    for row in mill.tables.outbox.values():
        row.published, row.replay = False, True
    mill.published.clear()
    await rest(mill)
    assert len(mill.log.events("receipt.recorded")) == receipts
    assert len(mill.log.events("message.status")) == statuses
    assert Kind.STATUS not in {envelope.kind for envelope in mill.to_users()}
