"""Unread counts: the twin and PostgreSQL count what a naive reader of the whole log counts."""

from __future__ import annotations

from domain.conversations import Summary, Unread
from domain.notifications import NotificationDraft
from domain.watermarks import Watermark
from schemas.ids import new_id
from schemas.messages import Message
from streams.stages.status import HandleStatus
from tests import make
from tests.contract.reads.conftest import World


async def line(world: World, user: str) -> Summary:
    """The conversation in the list of a member."""
    return next(one for one in await world.conversations.mine(user, None, 200) if one.conversation_id == world.room)


async def unread(world: World, user: str) -> tuple[int, int]:
    """Unread messages, and the seq behind which they begin."""
    found = await line(world, user)
    return found.unread, found.my_read_seq


async def read(world: World, user: str, seq: int) -> None:
    """A receipt, as the stage stores it."""
    moved = await world.statuses.advance([Watermark(world.room, user, seq, seq)], 32)
    assert not moved.refused


async def test_unread_is_what_was_said_beyond_the_own_watermark(world: World):
    for _ in range(3):
        await world.send()
    assert await unread(world, "bob") == (3, 0)
    await read(world, "bob", 2)
    assert await unread(world, "bob") == (1, 2)
    await read(world, "bob", 1)
    await read(world, "bob", 2)
    assert await unread(world, "bob") == (1, 2)
    await world.conversations.add(world.room, "dave", by="alice")  # a change that is no message
    assert await unread(world, "bob") == (1, 2)
    await read(world, "bob", 4)
    assert await unread(world, "bob") == (0, 4)
    await world.send()
    assert await unread(world, "bob") == (1, 4)
    assert await unread(world, "carol") == (4, 0)


async def test_unread_has_no_upper_bound(world: World):
    await world.intake.accept([make.draft(conversationId=world.room) for _ in range(1_200)])
    assert (await unread(world, "bob"))[0] == 1_200


async def test_who_joins_has_nothing_unread_and_who_comes_back_begins_anew(world: World):
    for _ in range(4):
        await world.send()
    await world.conversations.add(world.room, "dave", by="alice")
    assert await unread(world, "dave") == (0, 5)
    await world.send()
    assert await unread(world, "dave") == (1, 5)
    await read(world, "dave", 6)
    await world.conversations.remove(world.room, "dave", by="alice")
    for _ in range(3):
        await world.send()
    await world.conversations.add(world.room, "dave", by="alice", reads_older=False)
    assert await unread(world, "dave") == (0, 11)
    await world.send()
    assert await unread(world, "dave") == (1, 11)


async def test_who_answers_has_read_what_came_before_at_once(world: World):
    for _ in range(3):
        await world.send()
    await world.send(sender="bob")
    assert await unread(world, "bob") == (0, 4)
    assert await unread(world, "alice") == (1, 3)
    assert await unread(world, "carol") == (4, 0)
    await world.intake.accept(
        [make.draft(conversationId=world.room, sender=user) for user in ("alice", "bob", "carol")]
    )
    found = [(await unread(world, user))[0] for user in ("alice", "bob", "carol")]
    assert found == [2, 1, 0]


async def test_a_repeated_or_refused_message_reads_nothing(world: World):
    first = make.draft(conversationId=world.room, sender="bob", key=f"k-{world.room}")
    await world.intake.accept([first])
    await world.send()
    await world.intake.accept([first, make.draft(conversationId=world.room, sender="bob", replyTo=new_id())])
    assert await unread(world, "bob") == (1, 1)


async def test_the_total_is_that_of_all_conversations(world: World):
    user = f"u-{new_id()}"
    rooms = [new_id() for _ in range(3)]
    for room in rooms:
        await world.conversations.create(room, None, "alice", [user])
    assert await world.conversations.unread(user) == Unread(0, 0)
    await world.intake.accept([make.draft(conversationId=room) for room in (rooms[0], rooms[0], rooms[1])])
    assert await world.conversations.unread(user) == Unread(3, 2)
    await world.statuses.advance([Watermark(rooms[0], user, 1, 1)], 32)
    assert await world.conversations.unread(user) == Unread(2, 2)
    await world.conversations.remove(rooms[1], user, by="alice")
    assert await world.conversations.unread(user) == Unread(1, 1)


async def answers(world: World, *messages: Message) -> list[str]:
    """Messages of these that answer something no receipt covers."""
    marked = await world.statuses.mark_sent(messages)
    return [message.content for message in messages if message.message_id in marked.answers]


async def test_a_message_is_an_answer_where_its_sender_had_not_read_what_others_said(world: World):
    said = [await world.send("a"), await world.send("b"), await world.send("c", "bob"), await world.send("d", "bob")]
    assert await answers(world, *said) == ["c"]
    assert await answers(world, *said) == ["c"], "until there is a receipt"
    await read(world, "bob", 3)
    assert await answers(world, *said) == []
    await world.conversations.add(world.room, "dave", by="alice")
    assert await answers(world, await world.send("e", "dave")) == [], "what was said before dave joined"
    assert await answers(world, await world.send("f"), await world.send("g", "dave")) == ["f", "g"]


async def notify(world: World, message: Message, *users: str) -> None:
    """Notifications of a message."""
    drafts = [NotificationDraft(new_id(), message.message_id, world.room, message.seq, user) for user in users]
    await world.notifications.add(drafts)


async def open_seqs(world: World, user: str) -> list[int]:
    """Seqs of the messages whose notifications are open, oldest first; the whole list agrees."""
    room = world.room
    opened = [n.message for n in await world.inbox.page(user, unseen=True, before=None, limit=99)]
    listed = await world.inbox.page(user, unseen=False, before=None, limit=99)
    assert opened == [n.message for n in listed if n.seen_at is None]
    return [message.seq for message in reversed(opened) if message.conversation_id == room]


async def test_a_receipt_closes_the_notifications_up_to_it(world: World):
    for _ in range(3):
        await notify(world, await world.send(), "bob", "carol")
    await read(world, "bob", 2)
    assert await open_seqs(world, "bob") == [3]
    assert await open_seqs(world, "carol") == [1, 2, 3]
    await world.statuses.advance([Watermark(world.room, "carol", 3, 0)], 32)
    assert await open_seqs(world, "carol") == [1, 2, 3], "delivered is not read"


async def test_an_answer_and_a_return_close_notifications(world: World):
    for _ in range(2):
        await notify(world, await world.send(), "bob", "carol")
    await world.send(sender="bob")
    assert await open_seqs(world, "bob") == []
    await world.conversations.remove(world.room, "carol", by="alice")
    await world.conversations.add(world.room, "carol", by="alice")
    assert await open_seqs(world, "carol") == []
    kept = await world.inbox.page("carol", unseen=False, before=None, limit=2)
    assert [n.message.conversation_id for n in kept] == [world.room] * 2


async def test_what_was_read_already_makes_no_notification(world: World):
    first, second = await world.send(), await world.send()
    await read(world, "bob", 1)
    await notify(world, first, "bob", "carol", "eve")
    await notify(world, second, "bob")
    assert [n.user_id for n in await world.notifications.stored([first.message_id])] == ["carol"]
    assert await open_seqs(world, "bob") == [2]
    await world.send(sender="carol")
    audiences = await world.notifications.audiences({world.room: 3}, 64)
    assert audiences[world.room].delivered == {"alice": 2, "bob": 1}


async def test_an_answer_takes_the_way_of_all_receipts(world: World):
    """Through the stage: the messages before are read by who answers, and their senders are told."""
    said = [await world.send(), await world.send(sender="carol"), await world.send(sender="bob")]
    stage = HandleStatus(world.statuses)
    outcome = await stage([make.created_of(message) for message in said])
    receipts = [event for event in outcome if type(event).__name__ == "ReceiptRecorded"]
    assert [(r.user_id, r.read_seq) for r in receipts] == [("carol", 2), ("bob", 3)]
    told = await stage(receipts)
    reads = [(event.user_id, event.read_seq, event.notify) for event in told if event.status == "read"]
    assert sorted(reads) == [("bob", 3, ("alice", "carol")), ("carol", 2, ("alice",))]
    marked = await world.statuses.mark_sent(said)
    assert [marked.messages[message.message_id].status for message in said] == ["read", "read", "sent"]


async def test_a_readers_other_devices_hear_of_it_also_in_a_large_conversation(world: World):
    await world.send()
    await world.statuses.advance([Watermark(world.room, "carol", 1, 1)], 2)
    moved = (await world.statuses.advance([Watermark(world.room, "bob", 1, 1, "desk")], 2)).advances
    assert [(m.status.wire, m.user_id, m.read_seq, m.notify) for m in moved] == [("read", "bob", 1, ())]
