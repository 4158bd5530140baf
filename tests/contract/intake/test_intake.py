"""Intake, conversations, history and outbox: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import Pool, transaction
from domain.drafts import Accepted, Contended
from domain.errors import Conflict, Forbidden, IdempotencyMismatch, Invalid, NotFound, Unavailable
from domain.history import Membership
from domain.log_position import Position
from schemas.ids import new_id
from schemas.messages import ChangeKind
from tests import make


async def test_seqs_are_dense_over_messages_and_membership(world):
    await world.intake.accept([world.draft("a"), world.draft("b")])
    await world.conversations.add(world.room, "carol", by="alice")
    await world.intake.accept([world.draft("c", sender="carol")])
    changes = await world.history.changes(world.room, 0, 100, 100)
    assert [c.seq for c in changes] == [1, 2, 3, 4]
    assert [c.kind for c in changes][2] == ChangeKind.MEMBER_ADDED
    assert changes[2].data["userId"] == "carol"
    assert [c.message.content for c in changes if c.message] == ["a", "b", "c"]
    assert (await world.history.heads([world.room, new_id()])).seqs == {world.room: 4}


async def test_a_page_of_changes_starts_after_and_ends_with_the_bounds(world):
    await world.intake.accept([world.draft(str(n)) for n in range(6)])
    assert [c.seq for c in await world.history.changes(world.room, 2, 5, 2)] == [3, 4]
    assert [c.seq for c in await world.history.changes(world.room, 4, 5, 10)] == [5]


async def test_the_same_key_gives_the_same_message(world):
    [first] = await world.intake.accept([world.draft(key="k-same")])
    [again] = await world.intake.accept([world.draft(key="k-same")])
    assert isinstance(again, Accepted)
    assert again.replayed
    assert again.message == first.message
    [other] = await world.intake.accept([world.draft("other", key="k-same")])
    assert isinstance(other, IdempotencyMismatch)
    assert (await world.history.heads([world.room])).of(world.room) == 1


async def test_the_same_key_twice_in_one_batch_makes_one_message(world):
    one, two, three = await world.intake.accept(
        [world.draft(key="k-batch"), world.draft(key="k-batch"), world.draft("else", key="k-batch")]
    )
    assert one.message.message_id == two.message.message_id
    assert two.replayed
    assert isinstance(three, IdempotencyMismatch)


async def test_two_senders_may_use_the_same_key(world):
    one, two = await world.intake.accept([world.draft(key="k-two"), world.draft(key="k-two", sender="bob")])
    assert (one.message.seq, two.message.seq) == (1, 2)


async def test_parallel_retries_of_one_key_make_one_row(world):
    async def post() -> Any:
        for _ in range(20):
            try:
                return (await world.intake.accept([world.draft(key="k-par")], wait=True))[0]
            except Unavailable:
                continue
        raise AssertionError("never stored")

    answers = await asyncio.gather(*(post() for _ in range(20)))
    assert len({a.message.message_id for a in answers}) == 1
    assert (await world.history.heads([world.room])).of(world.room) == 1


async def test_a_held_conversation_is_passed_over_unless_it_is_waited_for(world):
    other = new_id()
    await world.conversations.create(other, None, "alice", [])
    [known] = await world.intake.accept([world.draft(key="k-held")])
    async with world.hold(world.room):
        batch = [world.draft("a"), make.draft("b", conversationId=other), world.draft(key="k-held"), world.draft("c")]
        outcomes = await world.intake.accept([*batch, make.draft(conversationId=new_id())])
        assert [type(o) for o in outcomes] == [Contended, Accepted, Accepted, Contended, NotFound]
        assert outcomes[2].message == known.message
        with pytest.raises(Unavailable):
            await world.intake.accept([batch[0]], wait=True)
    stored = await world.intake.accept([batch[0], batch[3]], wait=True)
    assert [o.message.seq for o in stored] == [2, 3]


async def test_one_bad_draft_does_not_fail_its_neighbours(world):
    outcomes = await world.intake.accept(
        [world.draft("a"), world.draft(sender="eve"), make.draft(conversationId=new_id()), world.draft("b")]
    )
    assert [type(o) for o in outcomes] == [Accepted, NotFound, NotFound, Accepted]
    assert [o.message.seq for o in outcomes if isinstance(o, Accepted)] == [1, 2]


async def test_a_reply_must_be_to_this_conversation(world):
    elsewhere = new_id()
    await world.conversations.create(elsewhere, None, "alice", [])
    [there] = await world.intake.accept([make.draft(conversationId=elsewhere)])
    [here] = await world.intake.accept([world.draft()])
    good, bad = await world.intake.accept(
        [world.draft(replyTo=here.message.message_id), world.draft(replyTo=there.message.message_id)]
    )
    assert good.message.reply_to == here.message.message_id
    assert isinstance(bad, Invalid)


async def test_an_attachment_must_be_an_upload_of_the_sender(world):
    [outcome] = await world.intake.accept([world.draft(attachments=[new_id()])])
    assert isinstance(outcome, Invalid)
    assert (await world.history.heads([world.room])).of(world.room) == 0


async def test_every_change_is_owed_to_kafka_until_it_is_marked(world):
    await world.intake.accept([world.draft(str(n)) for n in range(3)])
    await world.conversations.remove(world.room, "bob", by="bob")
    async with world.open_outbox() as outbox:
        assert await outbox.unpublished(100) == []  # no shard is owned yet
        await outbox.claim()
        owed = [row for row in await outbox.unpublished(1000) if row.conversation_id == world.room]
        assert [(row.seq, row.topic) for row in owed] == [
            (0, "conversation.changed"),
            (1, "message.created"),
            (2, "message.created"),
            (3, "message.created"),
            (4, "conversation.changed"),
        ]
        await outbox.mark(owed[:3], {})
        left = [row.seq for row in await outbox.unpublished(1000) if row.conversation_id == world.room]
        assert left == [3, 4]
        await outbox.mark(owed, {})


async def test_what_a_log_has_lost_is_owed_again_once_and_marks_from_before_count_for_nothing(world):
    await world.intake.accept([world.draft(str(n)) for n in range(3)])
    async with world.open_outbox() as outbox, world.open_outbox() as other:
        await outbox.claim()

        async def owed() -> list[int]:
            return [row.seq for row in await outbox.unpublished(1000) if row.conversation_id == world.room]

        def log(cluster_id: str, **ends: int) -> Position:
            return Position(cluster_id=cluster_id, replication=1, ends={f"{k}/0": end for k, end in ends.items()})

        first = new_id()
        await outbox.compare(log(first, a=0))  # whatever was there before
        assert await outbox.compare(log(first, a=4)) is None
        await outbox.mark(await outbox.unpublished(1000), {})
        assert await owed() == []
        await other.compare(log(first, a=4))
        assert await other.compare(log(first, a=5, b=1)) is None

        async def now(_: Position) -> Position:
            return log(first, a=6, b=1)

        assert await other.compare(log(first, a=3, b=1), now) is None  # read before the other relay noted more
        late = await outbox.unpublished(1000)
        loss = await other.compare(log(first, a=3, b=1))
        assert loss is not None
        assert loss.rows >= 4
        assert "a/0 ended at 6 and ends at 3" in loss.what
        await outbox.mark([*late, *(row for row in await outbox.unpublished(1000))], {})  # acknowledged by the old log
        assert await owed() == [0, 1, 2, 3]
        known = await outbox.compare(log(first, a=3, b=1))  # found by the other one already
        assert known is not None
        assert known.known
        assert known.rows == 0
        assert await outbox.compare(log(first, a=3, b=1)) is None
        await outbox.mark(await outbox.unpublished(1000), {})
        assert await owed() == []
        assert (await outbox.compare(log(new_id(), a=9, b=9))) is not None
        assert await outbox.noted_replication() == 1
        await outbox.mark(await outbox.unpublished(1000), {})


async def test_whatever_is_marked_can_be_missed(world):
    await world.intake.accept([world.draft("a")])
    async with world.open_outbox() as outbox:
        await outbox.claim()
        first = new_id()
        found = partial(Position, cluster_id=first, replication=1)
        await outbox.compare(found(ends={}))
        await outbox.compare(found(ends={"a/0": 3, "b/0": 1}))
        await outbox.mark(await outbox.unpublished(1000), {"a/0": 4, "b/0": 1, "c/0": 1})
        await outbox.mark([], {"a/0": 2})
        assert await outbox.compare(found(ends={"a/0": 4, "b/0": 1, "c/0": 1})) is None
        await outbox.mark([], {"a/0": 5})
        loss = await outbox.compare(found(ends={"a/0": 4, "b/0": 1, "c/0": 1}))
        assert loss is not None
        assert "a/0 ended at 5 and ends at 4" in loss.what
        await outbox.mark(await outbox.unpublished(1000), {})


async def test_topics_that_are_gone_have_lost_and_are_not_noted_as_a_first_state(world):
    async with world.open_outbox() as outbox:
        await outbox.compare(Position(cluster_id="c", replication=1, ends={"a/0": 2}))
        await outbox.compare(Position(cluster_id="c", replication=1, ends={"a/0": 2}))
        gone = Position(cluster_id="c", replication=0, ends={}, missing=("a",))
        assert await outbox.compare(gone) is not None
        assert await outbox.compare(gone) is None
        assert await outbox.noted_replication() == 1


async def test_membership_changes_once_and_by_the_right_people(world):
    await world.conversations.add(world.room, "carol", by="alice")
    await world.conversations.add(world.room, "carol", by="alice")
    membership = await world.history.membership(world.room, "carol")
    assert membership == Membership((await world.history.heads([world.room])).of(world.room))
    assert (await world.history.heads([world.room])).of(world.room) == 1
    with pytest.raises(Forbidden):
        await world.conversations.add(world.room, "dave", by="bob")
    with pytest.raises(Forbidden):
        await world.conversations.remove(world.room, "alice", by="bob")
    with pytest.raises(NotFound):
        await world.conversations.add(world.room, "dave", by="eve")
    with pytest.raises(Conflict):
        await world.conversations.remove(world.room, "alice", by="alice")
    await world.conversations.remove(world.room, "carol", by="carol")
    assert await world.history.membership(world.room, "carol") is None
    assert await world.history.membership(world.room, "bob") == Membership(0)
    assert list(await world.history.members(world.room)) == ["alice", "bob"]
    assert list(await world.history.members(world.room, 1)) == ["alice"]


async def test_a_conversation_id_is_taken_once(world):
    with pytest.raises(Conflict):
        await world.conversations.create(world.room, None, "eve", [])
    assert await world.conversations.get(world.room, "eve") is None


async def test_the_list_is_newest_first_with_unread_counts(world):
    other = new_id()
    await world.conversations.create(other, None, "bob", [])
    await world.intake.accept([world.draft("one"), world.draft("two")])
    mine = [s for s in await world.conversations.mine("bob", None, 50) if s.conversation_id in (other, world.room)]
    assert [s.conversation_id for s in mine] == [world.room, other]
    assert (mine[0].unread, mine[0].last_message.content, mine[0].head_seq) == (2, "two", 2)
    first = mine[0]
    after = await world.conversations.mine("bob", (first.last_at, first.conversation_id), 50)
    assert world.room not in [s.conversation_id for s in after]


async def test_a_message_is_found_by_its_id(world):
    [made] = await world.intake.accept([world.draft()])
    assert await world.history.place_of(made.message.message_id) == (world.room, 1)
    assert await world.history.place_of(new_id()) is None
    assert await world.history.place_of("nonsense") is None


async def test_small_conversations_are_told_from_large_ones(world):
    async def small(most: int) -> list[str]:
        return [each.conversation_id for each in await world.history.small_conversations("bob", most)]

    assert world.room in await small(2)
    assert world.room not in await small(1)


async def test_a_first_receipt_under_way_holds_up_no_message(pool: Pool):
    """Its foreign key shares the key of the conversation; were that a competitor, the drafts would be put aside."""
    room, intake = new_id(), PostgresIntake(pool)
    await PostgresConversations(pool).create(room, None, "alice", ["bob"])
    async with transaction(pool) as receipt:
        await receipt.execute("INSERT INTO receipts (conversation_id, user_id) VALUES (%s, 'bob')", [room])
        [made] = await intake.accept([make.draft(conversationId=room)])
        assert isinstance(made, Accepted)
    async with transaction(pool) as batch:
        await batch.execute(
            "SELECT 1 FROM conversations WHERE conversation_id = %s FOR NO KEY UPDATE", [room]
        )  # as a batch does
        async with asyncio.timeout(1), transaction(pool) as receipt:
            await receipt.execute("INSERT INTO receipts (conversation_id, user_id) VALUES (%s, 'alice')", [room])
        [held] = await intake.accept([make.draft(conversationId=room)])
        assert isinstance(held, Contended)
