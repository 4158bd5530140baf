"""Ports behind the HTTP calls (messages, receipts, search, notifications, counts, uploads): twins and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
import pytest

from adapters.memory.analytics import MemoryMinuteCounts
from adapters.memory.effects import MemoryCounts, MemoryIndex, MemoryNotifications, MemoryStatuses
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryMessages, MemoryReceipts
from adapters.memory.notifications import MemoryInbox
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import open_pool
from adapters.postgres.receipts import PostgresReceipts
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from domain.analytics import Counts, MinuteCount, MinuteCounts
from domain.conversations import Conversations
from domain.drafts import Intake
from domain.errors import Invalid, NotFound
from domain.media import Media, MediaFiles, MediaInfo, Uploads
from domain.messages import Messages
from domain.notifications import Inbox, NotificationDraft, Notifications
from domain.outbox import Outbox, Owed
from domain.receipts import Receipts
from domain.search import Hit, Index, Query, Search
from domain.watermarks import DEVICES_PER_MEMBER, Statuses, Watermark
from schemas.codec import decode
from schemas.events import ReceiptRecorded
from schemas.ids import new_id
from schemas.messages import Message
from tests import make


class Files(MediaFiles, Uploads, Protocol):
    """Uploads, as the stage and the calls see them."""


@dataclass
class World:
    room: str
    intake: Intake
    conversations: Conversations
    statuses: Statuses
    messages: Messages
    receipts: Receipts
    open_outbox: Any
    index: Index
    search: Search
    notifications: Notifications
    inbox: Inbox
    counts: Counts
    minutes: MinuteCounts
    media: Files

    async def send(self, content: str = "hi", sender: str = "alice", **more: Any) -> Message:
        [outcome] = await self.intake.accept([make.draft(content, conversationId=self.room, sender=sender, **more)])
        message: Message = outcome.message
        return message

    async def find(self, text: str, user: str = "bob", **bounds: Any) -> list[Hit]:
        query = Query(text=text, **{"conversation_id": self.room, **bounds})
        return list(await self.search.search(user, query, limit=10, offset=0))

    async def owed(self) -> list[Owed]:
        opened: AbstractAsyncContextManager[Outbox] = self.open_outbox()
        async with opened as outbox:
            await outbox.claim()
            return [row for row in await outbox.unpublished(1000) if row.conversation_id == self.room]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with memory() if request.param == "memory" else postgres(request.getfixturevalue("pg_dsn")) as made:
        await made.conversations.create(made.room, None, "alice", ["bob", "carol"])
        yield made


@asynccontextmanager
async def memory() -> AsyncIterator[World]:
    tables = Tables()
    index, notifications, counts = MemoryIndex(), MemoryNotifications(tables), MemoryCounts()

    @asynccontextmanager
    async def outbox() -> AsyncIterator[Outbox]:
        yield MemoryOutbox(tables)

    yield World(
        room=new_id(),
        intake=MemoryIntake(tables),
        conversations=MemoryConversations(tables),
        statuses=MemoryStatuses(tables),
        messages=MemoryMessages(tables),
        receipts=MemoryReceipts(tables),
        open_outbox=outbox,
        index=index,
        search=MemorySearch(tables, index),
        notifications=notifications,
        inbox=MemoryInbox(notifications),
        counts=counts,
        minutes=MemoryMinuteCounts(counts),
        media=MemoryMedia(tables),
    )


@asynccontextmanager
async def postgres(dsn: str) -> AsyncIterator[World]:
    async with open_pool(dsn) as pool:
        search, notifications, counts = PostgresSearch(pool), PostgresNotifications(pool), PostgresCounts(pool)
        yield World(
            room=new_id(),
            intake=PostgresIntake(pool),
            conversations=PostgresConversations(pool),
            statuses=PostgresStatuses(pool),
            messages=PostgresMessages(pool),
            receipts=PostgresReceipts(pool),
            open_outbox=lambda: open_outbox(dsn),
            index=search,
            search=search,
            notifications=notifications,
            inbox=notifications,
            counts=counts,
            minutes=counts,
            media=PostgresMedia(pool),
        )


@pytest.mark.parametrize(
    ("after", "before", "limit", "seqs"),
    [
        (None, None, 10, [1, 2, 3, 5, 6]),
        (None, None, 2, [5, 6]),
        (None, 5, 2, [2, 3]),
        (0, None, 2, [1, 2]),
        (3, None, 10, [5, 6]),
        (1, 5, 10, [2, 3]),
        (6, None, 10, []),
        (None, 1, 10, []),
    ],
)
async def test_a_page_holds_messages_between_two_seqs_ascending(world, after, before, limit, seqs):
    for number in range(3):
        await world.send(str(number))
    await world.conversations.add(world.room, "dave", by="alice")
    for number in range(2):
        await world.send(str(number))
    assert [m.seq for m in await world.messages.page(world.room, after, before, limit)] == seqs


async def test_a_message_is_read_by_members_only(world):
    message = await world.send("Zoë")
    assert await world.messages.one(message.message_id, "bob") == message
    assert await world.messages.one(message.message_id, "eve") is None
    assert await world.messages.one(new_id(), "bob") is None
    assert await world.messages.one("nonsense", "bob") is None
    await world.conversations.remove(world.room, "bob", by="alice")
    assert await world.messages.one(message.message_id, "bob") is None


async def test_each_other_member_has_a_receipt_of_a_message(world):
    first, second = await world.send(), await world.send()
    await world.statuses.advance([Watermark(world.room, "bob", 2, 1), Watermark(world.room, "carol", 1, 0)], 32)

    async def receipts(message: Message) -> list[tuple[str, str, bool, bool]]:
        found = await world.messages.receipts(message.message_id)
        return [(r.user_id, r.status, r.delivered_at is not None, r.read_at is not None) for r in found]

    assert await receipts(first) == [("bob", "read", True, True), ("carol", "delivered", True, False)]
    assert await receipts(second) == [("bob", "delivered", True, False), ("carol", "sent", False, False)]
    assert await world.messages.receipts(new_id()) == []


def receipt(world: World, delivered: int, read: int = 0, user: str = "bob", **more: Any) -> ReceiptRecorded:
    fields = {"conversation_id": world.room, "user_id": user, "delivered_seq": delivered, "read_seq": read}
    return ReceiptRecorded(at=make.AT, **{**fields, **more})


async def owed_receipts(world: World) -> list[ReceiptRecorded]:
    rows = [row for row in await world.owed() if row.topic == ReceiptRecorded.TOPIC]
    events = [decode(row.topic, row.conversation_id.encode(), row.value) for row in rows]
    assert len({(row.seq, row.part) for row in rows}) == len(rows)
    return sorted((e for e in events if isinstance(e, ReceiptRecorded)), key=lambda e: (e.user_id, e.device))


async def publish_owed(world: World) -> None:
    async with world.open_outbox() as outbox:
        await outbox.claim()
        await outbox.mark(await outbox.unpublished(1000), {})


async def test_receipts_are_owed_to_kafka_one_for_each_device_with_all_that_it_has_reached(world):
    await world.send()
    await world.send()
    for one in (
        receipt(world, 2),
        receipt(world, 2, device="phone"),
        receipt(world, 1, 1),
        receipt(world, 2, user="carol"),
        receipt(world, 1),
        receipt(world, 2),
    ):
        await world.receipts.record(one)
    assert [(e.user_id, e.device, e.delivered_seq, e.read_seq) for e in await owed_receipts(world)] == [
        ("bob", "-", 2, 1),
        ("bob", "phone", 2, 0),
        ("carol", "-", 2, 0),
    ]


async def test_invented_devices_owe_no_more_than_a_member_may_have_and_lose_no_watermark(world):
    for _ in range(3):
        await world.send()
    for number in range(200):
        await world.receipts.record(receipt(world, 3 if number == 7 else 1, device=f"invented-{number}"))
    owed = await owed_receipts(world)
    assert 0 < len(owed) <= DEVICES_PER_MEMBER
    assert max(e.delivered_seq for e in owed) == 3
    await publish_owed(world)
    for number in range(200, 400):
        await world.receipts.record(receipt(world, 1, device=f"invented-{number}"))
    assert len(await owed_receipts(world)) <= DEVICES_PER_MEMBER


async def test_parallel_receipts_of_a_device_become_one_with_the_furthest(world):
    for _ in range(20):
        await world.send()
    seqs = [*range(1, 21)] * 2
    await asyncio.gather(*(world.receipts.record(receipt(world, seq, seq // 2)) for seq in seqs))
    assert [(e.delivered_seq, e.read_seq) for e in await owed_receipts(world)] == [(20, 10)]


async def test_a_receipt_that_takes_the_place_of_one_under_way_is_not_marked_with_it(world):
    await world.send()
    await world.send()
    await world.receipts.record(receipt(world, 1))
    async with world.open_outbox() as outbox:
        await outbox.claim()
        under_way = await outbox.unpublished(1000)
        await world.receipts.record(receipt(world, 2))
        await outbox.mark(under_way, {})
    assert [e.delivered_seq for e in await owed_receipts(world)] == [2]


async def test_a_receipt_that_was_published_is_owed_again_when_it_is_recorded_again(world):
    await world.send()
    await world.receipts.record(receipt(world, 1))
    await publish_owed(world)
    assert await world.owed() == []
    await world.receipts.record(receipt(world, 1))
    assert [row.topic for row in await world.owed()] == ["receipt.recorded"]


async def test_a_receipt_is_refused_to_strangers_and_beyond_the_head(world):
    await world.send()
    for refused in (receipt(world, 1, user="eve"), receipt(world, 1, conversation_id=new_id())):
        with pytest.raises(NotFound):
            await world.receipts.record(refused)
    with pytest.raises(NotFound):
        await world.receipts.record(receipt(world, 1, conversation_id="nonsense"))
    with pytest.raises(Invalid, match="at most 1"):
        await world.receipts.record(receipt(world, 2))
    assert [row for row in await world.owed() if row.topic == "receipt.recorded"] == []


async def test_a_search_finds_words_by_their_beginning_for_members_only(world):
    for content in ("The Windmill turns", "nothing here", "wind & <b>windows</b>"):
        await world.index.put([await world.send(content)])
    hits = await world.find("wind")
    assert {hit.message.content for hit in hits} == {"The Windmill turns", "wind & <b>windows</b>"}
    assert [hit.message.content for hit in await world.find("windmill turns")] == ["The Windmill turns"]
    assert await world.find("wind", user="eve") == []
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


async def test_a_document_becomes_what_the_store_says(world):
    message = await world.send("a fox")
    await world.index.put([msgspec.structs.replace(message, content="a forged fox", seq=9, sender_id="eve")])
    await world.index.put([message])
    assert await world.find("forged") == []
    assert [hit.message for hit in await world.find("fox")] == [message]
    assert [hit.message for hit in await world.find("fox", sender_id="alice")] == [message]


async def test_a_highlight_is_escaped_html(world):
    await world.index.put([await world.send("<script>alert(1)</script> windmill")])
    [hit] = await world.find("windmill")
    assert hit.highlight == "&lt;script&gt;alert(1)&lt;/script&gt; <mark>windmill</mark>"


async def test_a_search_keeps_its_bounds(world):
    elsewhere = new_id()
    await world.conversations.create(elsewhere, None, "alice", ["bob"])
    message = await world.send("a fox")
    other = await world.send("a fox", sender="carol")
    [third] = await world.intake.accept([make.draft("a fox", conversationId=elsewhere)])
    await world.index.put([message, other, third.message])
    at = datetime.fromisoformat(message.created_at)
    second = timedelta(seconds=1)

    async def found(**bounds: Any) -> set[str]:
        return {hit.message.message_id for hit in await world.find("fox", **bounds)}

    assert await found() == {message.message_id, other.message_id}
    assert {message.message_id, third.message.message_id} <= await found(conversation_id=None)
    assert await found(sender_id="carol") == {other.message_id}
    assert await found(after=at - second, before=at + 60 * second) == {message.message_id, other.message_id}
    assert await found(after=at + 60 * second) == await found(before=at - second) == set()


async def test_pages_of_hits_have_no_hit_twice(world):
    await world.index.put([await world.send(f"fox {number}") for number in range(5)])
    query = Query(text="fox", conversation_id=world.room)
    pages = [await world.search.search("bob", query, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert len({hit.message.message_id for page in pages for hit in page}) == 5


async def notify(world: World, *contents: str, user: str = "bob") -> list[str]:
    """Ids of new notifications, oldest first."""
    ids = sorted(new_id() for _ in contents)
    for id_, content in zip(ids, contents, strict=True):
        message = await world.send(content)
        draft = NotificationDraft(id_, message.message_id, world.room, message.seq, user)
        await world.notifications.add([draft])
    return ids


async def test_notifications_are_read_newest_first_in_pages_by_their_recipient(world):
    ids = await notify(world, "a", "b", "c")
    page = await world.inbox.page("bob", unseen=False, before=None, limit=2)
    assert [(n.notification_id, n.message.content) for n in page] == [(ids[2], "c"), (ids[1], "b")]
    assert {(n.channel, n.seen_at) for n in page} == {("in_app", None)}
    assert abs((page[0].created_at - datetime.now(UTC)).total_seconds()) < 60
    rest = await world.inbox.page("bob", unseen=False, before=ids[1], limit=2)
    assert [n.notification_id for n in rest] == ids[:1]
    assert await world.inbox.page("alice", unseen=False, before=None, limit=2) == []


async def test_a_notification_is_seen_with_all_older_ones_and_no_newer(world):
    ids = await notify(world, "a", "b", "c")
    others = await notify(world, "d", user="carol")
    await world.inbox.mark_seen("bob", ids[1])
    await world.inbox.mark_seen("bob", ids[1])
    seen = {n.notification_id: n.seen_at for n in await world.inbox.page("bob", unseen=False, before=None, limit=9)}
    assert [seen[id_] is not None for id_ in ids] == [True, True, False]
    unseen = await world.inbox.page("bob", unseen=True, before=None, limit=9)
    assert [n.notification_id for n in unseen] == ids[2:]
    await world.inbox.mark_seen("bob", ids[2])
    assert [n.seen_at for n in await world.inbox.page("carol", unseen=True, before=None, limit=9)] == [None]
    again = {n.notification_id: n.seen_at for n in await world.inbox.page("bob", unseen=False, before=None, limit=9)}
    assert again[ids[0]] == seen[ids[0]]
    assert others


async def test_who_leaves_a_conversation_has_no_notifications_of_it(world):
    await world.conversations.add(world.room, "dave", by="alice")
    ids = await notify(world, "a", user="dave")
    assert [n.notification_id for n in await world.inbox.page("dave", unseen=False, before=None, limit=9)] == ids
    await world.conversations.remove(world.room, "dave", by="alice")
    assert await world.inbox.page("dave", unseen=False, before=None, limit=9) == []


async def test_counts_are_read_by_minute_newest_first_within_bounds(world):
    def tick(seq: int, minute: int) -> MinuteCount:
        return MinuteCount(world.room, seq, f"2026-11-24T15:0{minute}:00.000Z")

    await world.counts.add([tick(1, 0), tick(2, 0), tick(3, 1), tick(4, 3)])
    start = datetime(2026, 11, 24, 15, tzinfo=UTC)

    async def minutes(*bounds: int | None, limit: int = 10) -> list[tuple[int, int]]:
        times = [None if bound is None else start + timedelta(minutes=bound) for bound in bounds]
        rows = await world.minutes.minutes(world.room, *times, limit)
        return [(int((at - start).total_seconds()) // 60, count) for at, count in rows]

    assert await minutes(None, None) == [(3, 1), (1, 1), (0, 2)]
    assert await minutes(None, None, limit=2) == [(3, 1), (1, 1)]
    assert await minutes(1, 3) == [(1, 1)]
    assert await world.minutes.minutes(new_id(), None, None, 10) == []


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


async def test_an_upload_is_read_by_its_owner_and_once_it_is_placed_by_members(world):
    media = upload()
    await world.media.add(media)
    message = await world.send("look", attachments=[media.media_id])
    assert message.attachments == (media.media_id,)

    async def readers() -> list[str]:
        return [user for user in ("alice", "bob", "eve") if await world.media.may_read(media.media_id, user)]

    assert await readers() == ["alice"]
    look = MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t")
    await world.media.save_probe(media.sha256, look)
    await world.media.ready(message, media, look)
    assert await readers() == ["alice", "bob"]
    assert not await world.media.may_read(new_id(), "alice")


@pytest.mark.parametrize(
    "look",
    [
        MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t"),
        MediaInfo(media_type="application/pdf", error="it is no picture"),
    ],
)
async def test_an_upload_that_was_probed_has_its_true_type_and_its_files(world, look):
    media = upload()
    await world.media.add(media)
    message = await world.send("look", attachments=[media.media_id])
    await world.media.save_probe(media.sha256, look)
    await world.media.ready(message, media, look)
    found = await world.media.get(media.media_id)
    assert found is not None
    assert (found.media_type, found.clean, found.thumbnail, found.conversation_id) == (
        look.media_type,
        look.clean is not None,
        look.thumbnail is not None,
        world.room,
    )


async def test_only_the_owner_attaches_an_upload(world):
    media = upload(owner_id="carol")
    await world.media.add(media)
    [outcome] = await world.intake.accept([make.draft("mine", conversationId=world.room, attachments=[media.media_id])])
    assert isinstance(outcome, Invalid)
    assert str(outcome) == "attachments must be uploads of the sender"
