"""What the stages do to the store: the twins and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from adapters.memory.effects import MemoryCounts, MemoryIndex, MemoryNotifications, MemoryStatuses
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.media import MemoryMedia
from adapters.memory.notifications import MemoryInbox
from adapters.memory.tables import Tables
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import open_pool
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from domain import watermarks
from domain.analytics import Counts, MinuteCount
from domain.media import Media, MediaInfo
from domain.notifications import Audience, Inbox, NotificationDraft, Notifications
from domain.quotas import MIN_CHARGE, Usage
from domain.search import Index
from domain.watermarks import DEVICES_PER_MEMBER, Statuses, Watermark, WatermarkAdvance
from schemas.fields import MAX_SEQ
from schemas.ids import new_id
from schemas.messages import Message, Status
from tests import make


@dataclass
class World:
    room: str
    intake: Any
    statuses: Statuses
    notifications: Notifications
    counts: Counts
    index: Index
    media: Any
    inbox: Inbox
    status_of: Any
    devices_of: Any

    async def devices(self, user: str = "bob") -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = await self.devices_of(user)
        return found

    async def send(self, content: str = "hi", sender: str = "alice") -> Message:
        [outcome] = await self.intake.accept([make.draft(content, conversationId=self.room, sender=sender)])
        return outcome.message

    async def fold(self, user: str, delivered: int, read: int = 0, everybody: int = 32) -> list[WatermarkAdvance]:
        moved = await self.statuses.advance([Watermark(self.room, user, delivered, read)], everybody)
        return list(moved.advances)


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    room = new_id()
    if request.param == "memory":
        tables = Tables()
        notifications = MemoryNotifications(tables)
        await MemoryConversations(tables).create(room, None, "alice", ["bob", "carol"])

        async def status_in_memory(id_: str) -> str:
            return tables.messages[id_].status

        async def devices_in_memory(user: str) -> dict[str, tuple[int, int]]:
            return {device: seqs for (_, who, device), seqs in tables.device_receipts.items() if who == user}

        yield World(
            room,
            MemoryIntake(tables),
            MemoryStatuses(tables),
            notifications,
            MemoryCounts(),
            MemoryIndex(),
            MemoryMedia(tables),
            MemoryInbox(notifications),
            status_in_memory,
            devices_in_memory,
        )
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        await PostgresConversations(pool).create(room, None, "alice", ["bob", "carol"])

        async def status_in_store(id_: str) -> str:
            message = await PostgresMessages(pool).one(id_, "alice")
            assert message is not None
            return message.status

        async def devices_in_store(user: str) -> dict[str, tuple[int, int]]:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "SELECT device, delivered_seq, read_seq FROM device_receipts"
                    " WHERE conversation_id = %s AND user_id = %s",
                    (room, user),
                )
                return {device: (delivered, read) for device, delivered, read in await cursor.fetchall()}

        yield World(
            room,
            PostgresIntake(pool),
            PostgresStatuses(pool),
            PostgresNotifications(pool),
            PostgresCounts(pool),
            PostgresSearch(pool),
            PostgresMedia(pool),
            PostgresNotifications(pool),
            status_in_store,
            devices_in_store,
        )


async def test_status_moves_forward_and_never_back(world):
    message = await world.send()
    assert await world.status_of(message.message_id) == "pending"
    await world.statuses.mark_sent([message])
    assert await world.status_of(message.message_id) == "sent"
    await world.fold("bob", 1)
    assert await world.status_of(message.message_id) == "delivered"
    await world.fold("bob", 1, 1)
    assert await world.status_of(message.message_id) == "read"
    await world.statuses.mark_sent([message])
    await world.fold("carol", 1)
    assert await world.status_of(message.message_id) == "read"


async def test_only_what_the_store_has_in_its_place_becomes_sent(world):
    message = await world.send()
    elsewhere = msgspec.structs.replace(message, seq=2)
    foreign = make.message(conversation_id=world.room, seq=1)
    forged = msgspec.structs.replace(message, content="I never said this", sender_id="eve", status="read")
    assert await world.statuses.mark_sent([foreign]) == {}
    assert await world.statuses.mark_sent([elsewhere, foreign]) == {message.message_id: message}
    assert await world.status_of(message.message_id) == "pending"
    assert await world.statuses.mark_sent([forged, forged]) == {message.message_id: message}
    assert await world.status_of(message.message_id) == "sent"


async def test_receipts_of_no_member_and_beyond_the_head_move_nothing_and_hide_no_true_one(world):
    await world.send()
    marks = [
        Watermark(world.room, "bob", 1, 0, "phone"),
        Watermark(world.room, "bob", MAX_SEQ, MAX_SEQ, "phone"),
        Watermark(world.room, "eve", 1, 1),
        Watermark(new_id(), "bob", 1, 1),
        Watermark(world.room, "carol", 0, 0),
    ]
    moved = await world.statuses.advance(marks, 32)
    assert [(m.user_id, m.status, m.seq) for m in moved.advances] == [("bob", Status.DELIVERED, 1)]
    assert list(moved.refused) == marks[1:4]
    assert await world.devices() == {"phone": (1, 0)}
    assert await world.devices("carol") == {}


async def test_a_receipt_may_come_before_its_message_is_sent(world):
    message = await world.send()
    [moved] = await world.fold("bob", 1)
    assert (moved.status, moved.message_ids) == (Status.DELIVERED, (message.message_id,))
    await world.statuses.mark_sent([message])
    assert await world.status_of(message.message_id) == "delivered"


async def test_a_watermark_never_falls_nor_passes_the_head(world):
    for _ in range(3):
        await world.send()
    beyond = Watermark(world.room, "bob", 4, 0)
    moved = await world.statuses.advance([beyond, Watermark(world.room, "bob", 3, 0)], 32)
    assert [(m.seq, m.delivered_seq) for m in moved.advances] == [(3, 3)]
    assert moved.refused == [beyond]
    assert await world.devices() == {"-": (3, 0)}
    assert await world.fold("bob", 2) == []
    [read] = await world.fold("bob", 0, 3)
    assert (read.status, read.delivered_seq, read.read_seq) == (Status.READ, 3, 3)


async def test_the_watermark_of_a_member_is_the_furthest_of_the_devices(world):
    for _ in range(5):
        await world.send()

    async def fold(*receipts: tuple[str, int, int]) -> list[tuple[Status, int]]:
        marks = [Watermark(world.room, "bob", delivered, read, device) for device, delivered, read in receipts]
        return [(m.status, m.seq) for m in (await world.statuses.advance(marks, 32)).advances]

    assert await fold(("phone", 2, 0), ("desk", 4, 1), ("phone", 3, 0)) == [(Status.DELIVERED, 4), (Status.READ, 1)]
    assert await fold(("phone", 1, 0)) == []
    assert await world.devices() == {"phone": (3, 0), "desk": (4, 1)}
    assert await fold(("phone", 5, 4), ("desk", 6, 6)) == [(Status.DELIVERED, 5), (Status.READ, 4)]
    assert await world.devices() == {"phone": (5, 4), "desk": (4, 1)}


async def test_a_mark_far_beyond_is_reached_in_steps_of_which_each_is_whole(world, monkeypatch: pytest.MonkeyPatch):
    """A crash between two of them leaves watermarks and statuses that agree, and the same mark goes on from there."""
    monkeypatch.setattr(watermarks, "SEQS_MAX", 4)
    messages = [await world.send() for _ in range(10)]

    async def call(*marks: Watermark) -> tuple[list[tuple[str, Status, int, int]], set[tuple[str, str]]]:
        moved = await world.statuses.advance(marks, 32)
        assert moved.refused == []
        return [(m.user_id, m.status, m.seq, len(m.message_ids)) for m in moved.advances], set(moved.unfinished)

    async def statuses() -> str:
        return "".join([(await world.status_of(message.message_id))[0] for message in messages])

    mark, bob = Watermark(world.room, "bob", 9, 6), (world.room, "bob")
    assert await call(mark) == ([("bob", Status.DELIVERED, 4, 4), ("bob", Status.READ, 4, 4)], {bob})
    assert await statuses() == "rrrrpppppp"
    assert await call(mark) == ([("bob", Status.DELIVERED, 8, 4), ("bob", Status.READ, 6, 2)], {bob})
    assert await statuses() == "rrrrrrddpp"
    assert await call(mark) == ([("bob", Status.DELIVERED, 9, 1)], set())
    both = (Watermark(world.room, "bob", 10, 10), Watermark(world.room, "carol", 1, 0))
    assert await call(*both) == (
        [("bob", Status.DELIVERED, 10, 1), ("carol", Status.DELIVERED, 1, 0), ("bob", Status.READ, 8, 2)],
        {bob},
    )
    assert await call(both[0]) == ([("bob", Status.READ, 10, 2)], set())
    assert await call(both[0]) == ([("bob", Status.DELIVERED, 10, 0), ("bob", Status.READ, 10, 0)], set())
    assert await statuses() == "r" * 10


async def test_of_invented_devices_the_latest_are_kept_and_the_member_loses_nothing(world):
    for _ in range(5):
        await world.send()

    async def fold(*marks: tuple[str, int]) -> None:
        await world.statuses.advance([Watermark(world.room, "bob", seq, 0, device) for device, seq in marks], 32)

    await fold(("phone", 5))
    await fold(*((f"invented-{number}", 1) for number in range(100)))
    devices = await world.devices()
    assert len(devices) == DEVICES_PER_MEMBER
    assert "phone" not in devices
    await fold(("phone", 4), ("desk", 3))
    devices = await world.devices()
    assert len(devices) == DEVICES_PER_MEMBER
    assert (devices["phone"], devices["desk"]) == ((4, 0), (3, 0))
    [moved] = await world.fold("bob", 5)
    assert moved.delivered_seq == 5
    assert await world.fold("bob", 4) == []


async def test_reading_implies_delivery(world):
    await world.send()
    delivered, read = await world.fold("bob", 0, 1)
    assert (delivered.status, read.status) == (Status.DELIVERED, Status.READ)
    assert (read.delivered_seq, read.read_seq) == (1, 1)


async def test_the_current_watermark_is_told_again_in_case_the_telling_was_lost(world):
    await world.send()
    await world.fold("bob", 1)
    [again] = await world.fold("bob", 1)
    assert (again.seq, again.notify, again.message_ids) == (1, ("alice",), ())


async def test_senders_in_large_conversations_hear_only_what_moves_their_messages(world):
    await world.send()
    assert [m.notify for m in await world.fold("bob", 1, everybody=2)] == [("alice",)]
    assert await world.fold("carol", 1, everybody=2) == []
    await world.send()
    await world.fold("bob", 2, everybody=32)
    assert [m.notify for m in await world.fold("carol", 2, everybody=32)] == [("alice",)]


async def test_own_messages_and_strangers_move_nothing(world):
    await world.send(sender="alice")
    assert await world.fold("alice", 1) == []
    assert await world.fold("eve", 1) == []


async def test_a_notice_is_stored_once_for_each_recipient(world):
    message = await world.send()

    def notice(user: str) -> NotificationDraft:
        return NotificationDraft(new_id(), message.message_id, world.room, message.seq, user)

    async def add(*users: str) -> list[NotificationDraft]:
        await world.notifications.add([notice(user) for user in users])
        return list(await world.notifications.stored([message.message_id]))

    first = await add("bob", "carol")
    assert [n.user_id for n in first] == ["bob", "carol"]
    assert first == await add("bob") == await add("carol", "carol", "bob")
    assert await world.notifications.stored([new_id()]) == []


async def test_those_may_be_notified_to_whom_not_all_was_delivered(world):
    for _ in range(3):
        await world.send()
    await world.fold("bob", 2)
    await world.fold("carol", 3)
    audiences = await world.notifications.audiences({world.room: 3, new_id(): 1}, 64)
    assert audiences == {world.room: Audience({"alice": 0, "bob": 2}, collapsed=False)}
    assert await world.notifications.member_counts([world.room, new_id()]) == {world.room: 3}


async def test_in_a_large_conversation_nobody_has_two_open_notifications(world):
    first, second, third = [await world.send() for _ in range(3)]
    id_ = new_id()

    async def audience(most: int = 2) -> list[str]:
        found = await world.notifications.audiences({world.room: 3}, most)
        return sorted(found[world.room].delivered)

    assert await audience() == ["alice", "bob", "carol"]
    await world.notifications.add([NotificationDraft(id_, first.message_id, world.room, 1, "bob")])
    assert (await audience(), await audience(3)) == (["alice", "carol"], ["alice", "bob", "carol"])
    assert (await world.notifications.audiences({world.room: 3}, 2))[world.room].collapsed
    await world.inbox.mark_seen("bob", id_)
    assert await audience() == ["alice", "bob", "carol"]
    await world.notifications.add([NotificationDraft(new_id(), second.message_id, world.room, 2, "bob")])
    assert await audience() == ["alice", "carol"]
    await world.fold("bob", 2)  # on another device, where nobody looks at notifications
    assert await audience() == ["alice", "bob", "carol"]
    await world.notifications.add([NotificationDraft(new_id(), third.message_id, world.room, 3, "bob")])
    assert await audience() == ["alice", "carol"]


async def test_messages_are_counted_once_however_often_they_come(world):
    def ticks(*seqs: int) -> list[MinuteCount]:
        return [MinuteCount(world.room, seq, f"2026-11-24T15:0{seq // 3}:00.000Z") for seq in seqs]

    first = await world.counts.add(ticks(1, 2, 3))
    assert [(t.minute[14:16], t.messages) for t in first] == [("00", 2), ("01", 1)]
    assert await world.counts.add(ticks(1, 2, 3)) == first
    more = await world.counts.add(ticks(2, 3, 4, 4, 5))
    assert [(t.minute[14:16], t.messages) for t in more] == [("00", 2), ("01", 3)]


async def test_indexing_twice_changes_nothing(world):
    message = await world.send("a fox")
    await world.index.put([message])
    await world.index.put([message, message])


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


async def test_the_files_of_a_user_are_counted_once_each(world):
    owner, small, large = f"owner-{new_id()}", upload(size=1), upload(size=2**20)
    assert await world.media.usage(owner) == Usage(0, 0)
    for media in (small, large):
        for _ in range(2):
            await world.media.add(replace(media, owner_id=owner))
    total = MIN_CHARGE + 2**20
    assert await world.media.usage(owner) == Usage(total, total)
    await world.media.add(upload(owner_id="somebody-else"))
    assert await world.media.usage(owner) == Usage(total, total)


async def test_an_upload_is_found_as_it_was_added(world):
    media = upload()
    await world.media.add(media)
    await world.media.add(media)
    assert await world.media.get(media.media_id) == media
    assert await world.media.get(new_id()) is None


async def test_what_a_content_is_is_learned_once_and_without_its_bytes(world):
    sha256 = new_id()
    assert await world.media.find_probe(sha256) is None
    await world.media.save_probe(
        sha256, MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t")
    )
    await world.media.save_probe(sha256, MediaInfo(media_type="image/gif", error="other"))
    assert await world.media.find_probe(sha256) == MediaInfo(media_type="image/png", width=4, height=3)


@pytest.mark.parametrize(
    "look",
    [MediaInfo(media_type="image/png", width=4, height=3), MediaInfo(media_type="image/png", error="it is damaged")],
)
async def test_an_attachment_is_told_once_under_a_seq_of_its_own(world, look):
    first, second = upload(), upload()
    message = await world.send()
    for media in (first, second):
        await world.media.add(media)
    told = [await world.media.ready(message, media, look) for media in (first, second, first, second)]
    assert told[:2] == told[2:]
    assert [(e.seq, e.media_id, e.error) for e in told[:2]] == [
        (2, first.media_id, look.error),
        (3, second.media_id, look.error),
    ]
    assert told[0].thumbnail is (look.error is None)


async def test_an_event_of_a_notification_is_written_until_the_log_has_it_and_told_once(world):
    message = await world.send()
    ids, notices = [message.message_id], world.notifications
    first = NotificationDraft(new_id(), message.message_id, world.room, 1, "bob")
    await notices.add([first])
    assert await notices.told(ids) == set()
    assert await notices.unpublished(ids) == {first.notification_id}  # a crash before the mark: it is written again
    await notices.note_published(ids)
    assert await notices.unpublished(ids) == set()
    assert await notices.told(ids) == {f"{message.message_id}:bob:in_app"}
    later = NotificationDraft(new_id(), message.message_id, world.room, 1, "carol")
    await notices.add([later])
    assert await notices.unpublished(ids) == {later.notification_id}
    assert await notices.told(ids) == {f"{message.message_id}:bob:in_app"}
    await notices.note_published(ids)
    assert await notices.unpublished(ids) == set()


async def test_what_people_were_told_of_is_known_from_the_store(world):
    message = await world.send()
    assert await world.statuses.sent([message.message_id]) == set()
    assert await world.statuses.watermarks([(world.room, "bob")]) == {}
    await world.statuses.mark_sent([message])
    await world.fold("bob", 1)
    assert await world.statuses.sent([message.message_id, new_id()]) == {message.message_id}
    assert await world.statuses.watermarks([(world.room, "bob"), (world.room, "carol")]) == {
        (world.room, "bob"): (1, 0)
    }
    assert await world.media.told([message.message_id]) == set()
