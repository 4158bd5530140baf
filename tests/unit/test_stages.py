"""The rules of the five stages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters.memory.blobs import MemoryBlobs
from adapters.memory.effects import MemoryNotifications
from adapters.memory.intake import MemoryConversations
from adapters.memory.media import MemoryMedia
from adapters.memory.notifications import MemoryInbox
from adapters.memory.tables import ConversationRow, Tables
from adapters.memory.undecided import MemoryUndecided
from domain.media import Media, MediaInfo, blob
from domain.notifications import Audience, missed
from domain.presence import Registry
from domain.watermarks import Advances, Marked, WatermarkAdvance, merge
from schemas.codec import record
from schemas.events import AnyEvent, MediaProcessed, MessageSent, NotificationSent, ReceiptRecorded
from schemas.ids import new_id
from schemas.messages import Message, Status
from streams.media.kinds import kind_of
from streams.media.probe import probe
from streams.stages import notification
from streams.stages.analytics import tick
from streams.stages.media import HandleMedia
from streams.stages.notification import HandleNotification
from streams.stages.status import HandleStatus, watermarks_of
from tests import make


def receipt(user: str, delivered: int, read: int = 0) -> ReceiptRecorded:
    return ReceiptRecorded(conversation_id=make.ROOM, user_id=user, delivered_seq=delivered, read_seq=read, at=make.AT)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9))))
def test_receipts_merge_to_the_furthest_and_read_implies_delivered(given_receipts):
    marks = merge(watermarks_of(receipt(*r) for r in given_receipts))
    assert len({m.user_id for m in marks}) == len(marks)
    for mark in marks:
        mine = [(d, r) for user, d, r in given_receipts if user == mark.user_id]
        assert mark.read_seq == max(r for _, r in mine)
        assert mark.delivered_seq == max(max(pair) for pair in mine)


class NoStatuses:
    """Takes everything, moves nothing."""

    async def mark_sent(self, claimed: Sequence[Message]) -> Marked:
        return Marked({message.message_id: message for message in claimed})

    async def advance(self, marks, everybody_up_to):
        return Advances([], [])


async def test_every_created_message_is_told_as_sent_also_on_a_repeat():
    events = [make.created(seq=n) for n in (1, 2)]
    told = await HandleStatus(NoStatuses())([*events, *events])
    assert [type(e) for e in told] == [MessageSent] * 4
    assert [(e.message.seq, e.message.status) for e in told] == [(1, "sent"), (2, "sent")] * 2


class MovesMuch(NoStatuses):
    """The first receipt of a conversation that nobody has read before."""

    async def advance(self, marks, everybody_up_to):
        ids = tuple(str(n) for n in range(30_000))
        advance = WatermarkAdvance(
            conversation_id=make.ROOM,
            user_id="bob",
            status=Status.READ,
            seq=30_000,
            delivered_seq=30_000,
            read_seq=30_000,
            message_ids=ids,
            notify=("alice",),
        )
        return Advances([advance], [])


async def test_a_receipt_that_moves_very_much_fits_into_a_record():
    [told] = await HandleStatus(MovesMuch())([receipt("bob", 30_000, 30_000)])
    assert len(record(told, producer="test").value) < 100_000
    assert told.notify == ("alice",)


def test_a_member_missed_what_others_said_and_no_device_has():
    messages = [make.message(sender_id=sender, seq=seq) for seq, sender in ((5, "alice"), (6, "bob"), (7, "alice"))]
    audience = Audience({"alice": 0, "bob": 0, "carol": 5, "dave": 7})

    def seqs(user: str, *, collapsed: bool = False, known: frozenset[tuple[str, str]] = frozenset()) -> list[int]:
        return [message.seq for message in missed(messages, user, replace(audience, collapsed=collapsed), known)]

    assert (seqs("alice"), seqs("bob"), seqs("carol"), seqs("dave")) == ([6], [5, 7], [6, 7], [])
    assert (seqs("bob", collapsed=True), seqs("dave", collapsed=True)) == ([5], [])
    known = frozenset({(messages[0].message_id, "bob")})
    assert (seqs("bob", known=known), seqs("bob", known=known, collapsed=True)) == ([7], [7])


class Connected:
    """A registry in which only these users are connected."""

    def __init__(self, *users: str) -> None:
        self.users = frozenset(users)

    async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(user_ids) - self.users


def notifying(notifications: MemoryNotifications, registry: Connected, **options: Any) -> HandleNotification:
    return HandleNotification(notifications, cast("Registry", registry), MemoryUndecided(), **options)


async def test_a_repeated_message_gives_the_same_notification_also_when_its_recipient_has_come_back():
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    notifications, event = MemoryNotifications(tables), make.created()
    [first] = await notifying(notifications, Connected("bob"))([event])
    [again] = await notifying(notifications, Connected("bob", "carol"))([event])
    assert isinstance(first, NotificationSent)
    assert (first.user_id, first.notification_id) == ("carol", again.notification_id)


def told(events: Sequence[AnyEvent]) -> list[tuple[int, str]]:
    return sorted((event.seq, event.user_id) for event in events if isinstance(event, NotificationSent))


async def test_the_sender_the_connected_and_those_who_have_it_need_no_notification():
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob", "carol", "dave"])
    tables.receipts[make.ROOM, "dave"] = (7, 0)
    rule = notifying(MemoryNotifications(tables), Connected("bob"))
    assert told(await rule([make.created(seq=7)])) == [(7, "carol")]


async def test_in_a_large_conversation_one_notification_stands_for_all_until_it_is_seen():
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob", "carol"])
    notifications = MemoryNotifications(tables)
    rule = notifying(notifications, Connected(), each_max_members=2)
    events = [make.created(seq=seq, sender_id="alice" if seq > 1 else "bob") for seq in range(1, 6)]
    first = await rule(events[:3])
    assert told(first) == [(1, "alice"), (1, "carol"), (2, "bob")]
    assert await rule(events[3:]) == []
    assert told(await rule(events[:3])) == told(first)
    [of_bob] = [event for event in first if event.user_id == "bob"]
    await MemoryInbox(notifications).mark_seen("bob", of_bob.notification_id)
    assert told(await rule(events[3:])) == [(4, "bob")]


async def test_a_crash_before_a_notification_was_seen_loses_none_of_what_came_behind_it():
    """Seen between the crash and the next attempt: the first message has its notification, so the next gets one."""
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, None, "alice", ["bob"])
    notifications = MemoryNotifications(tables)
    rule = notifying(notifications, Connected(), each_max_members=1)
    events = [make.created(seq=seq) for seq in (1, 2)]
    [first] = await rule(events[:1])  # its batch is not acknowledged
    await MemoryInbox(notifications).mark_seen("bob", first.notification_id)
    assert told(await rule(events)) == [(1, "bob"), (2, "bob")]


async def test_members_are_looked_up_and_stored_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notification, "_MEMBERS_MAX", 10)
    tables, users = Tables(), [f"m{n:02}" for n in range(35)]
    await MemoryConversations(tables).create(make.ROOM, None, "alice", users)
    lookups: list[int] = []

    class Looked(Connected):
        async def away(self, user_ids: Sequence[str]) -> frozenset[str]:
            lookups.append(len(user_ids))
            return await super().away(user_ids)

    rule = notifying(MemoryNotifications(tables), Looked("m03"))
    assert told(await rule([make.created()])) == [(1, user) for user in users if user != "m03"]
    assert lookups == [10, 10, 10, 6]


async def test_a_message_weighs_what_it_may_write():
    tables, large, small, unknown = Tables(), new_id(), new_id(), new_id()
    await MemoryConversations(tables).create(large, None, "alice", ["bob", "carol"])
    await MemoryConversations(tables).create(small, None, "alice", ["bob"])
    rule = notifying(MemoryNotifications(tables), Connected(), each_max_members=2)
    assert await rule.weigh([small, large, "?", small, large, large, unknown]) == [2, 3, 1, 2, 0, 0, 1]


def test_a_message_counts_in_the_minute_of_its_creation():
    assert tick(make.message(created_at="2026-11-24T15:07:59.999Z")).minute == "2026-11-24T15:07:00.000Z"


def picture(kind: str, size: tuple[int, int], **save: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 40, 40)).save(out, kind, **save)
    return out.getvalue()


async def test_a_picture_loses_its_metadata_and_gets_a_thumbnail():
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    exif[0x0112] = 6  # turned by 90 degrees
    look = await probe(picture("JPEG", (800, 600), exif=exif), "a.jpg")
    assert look.error is None
    assert (look.media_type, look.width, look.height) == ("image/jpeg", 600, 800)
    assert b"where I live" not in look.clean
    assert dict(Image.open(io.BytesIO(look.clean)).getexif()) == {0x0112: 6}  # so that viewers turn it, too
    thumbnail = Image.open(io.BytesIO(look.thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (240, 320))


async def test_a_picture_that_moves_keeps_moving_and_stays_transparent():
    frames = [Image.new("RGBA", (40, 30), (n * 60, 0, 0, 255)) for n in range(3)]
    for frame in frames:
        frame.putpixel((0, 0), (0, 0, 0, 0))
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=70, loop=0, comment=b"secret")
    look = await probe(out.getvalue(), "a.gif")
    clean: Any = Image.open(io.BytesIO(look.clean))
    assert (clean.format, clean.n_frames, clean.info["duration"]) == ("GIF", 3, 70)
    assert clean.convert("RGBA").getpixel((0, 0))[3] == 0
    assert b"secret" not in look.clean


@pytest.mark.parametrize(
    ("kind", "mode", "becomes"), [("TIFF", "CMYK", "jpeg"), ("BMP", "P", "png"), ("PNG", "I;16", "png")]
)
async def test_unusual_pictures_become_usual_ones(kind, mode, becomes):
    out = io.BytesIO()
    Image.new(mode, (20, 10)).save(out, kind)
    look = await probe(out.getvalue(), "x")
    assert (look.error, look.media_type) == (None, f"image/{becomes}")


def album(*names: str, sha256: str = "a" * 64) -> tuple[MemoryMedia, MemoryBlobs]:
    files = MemoryMedia(Tables(conversations={make.ROOM: ConversationRow(make.ROOM, None, "alice", last_seq=1)}))
    for name in names:
        files.uploads[name] = Media(
            media_id=name, owner_id="alice", file_name=name, declared_type="image/png", size=3, sha256=sha256
        )
    return files, MemoryBlobs({blob(sha256, "original"): b"png"})


async def test_the_same_bytes_are_looked_at_once_and_each_place_is_told_once():
    files, blobs = album("m1", "m2")
    looked: list[bytes] = []

    async def look(content: bytes, _: str) -> MediaInfo:
        looked.append(content)
        return MediaInfo(media_type="image/png", width=4, height=3, clean=b"clean", thumbnail=b"small")

    handle, event = HandleMedia(files, blobs, look), make.created(attachments=("m1", "m2"))
    told = await handle([event])
    assert [(type(e), e.media_id, e.seq) for e in told] == [(MediaProcessed, "m1", 2), (MediaProcessed, "m2", 3)]
    assert await handle([event]) == told
    assert looked == [b"png"]
    assert blobs.files[blob("a" * 64, "clean")] == b"clean"
    assert blobs.files[blob("a" * 64, "thumbnail")] == b"small"


async def test_an_attachment_whose_bytes_are_gone_is_told_with_an_error():
    files, _ = album("m1")
    [told] = await HandleMedia(files, MemoryBlobs(), probe)([make.created(attachments=("m1", "nobody"))])
    assert (told.media_id, told.error, told.thumbnail) == ("m1", "the file is gone", False)


async def test_what_a_file_is_is_told_by_its_content():
    assert (await probe(picture("PNG", (10, 10)), "innocent.txt")).media_type == "image/png"
    assert kind_of(b"just some words") in ("text/plain", "application/octet-stream")
    assert await probe(b"%PDF-1.7\n%more", "x.png") == MediaInfo(media_type="application/pdf", served="original")


async def test_a_damaged_picture_is_an_error_not_a_crash():
    look = await probe(picture("PNG", (500, 500))[:40] + bytes(1000), "a.png")
    assert look.error
    assert (look.clean, look.thumbnail, look.served) == (None, None, "none")


async def test_of_a_picture_that_is_cut_off_the_rest_is_shown():
    look = await probe(picture("PNG", (500, 500))[:200], "a.png")
    assert (look.error, look.served, look.width, look.height) == (None, "clean", 500, 500)
    assert look.thumbnail is not None


async def test_a_picture_that_would_eat_the_memory_is_copied_and_not_decoded():
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    look = await probe(out.getvalue(), "bomb.png")
    assert (look.error, look.served, look.width, look.height) == (None, "clean", 12_000, 12_000)
    assert (look.thumbnail, look.blurhash) == (None, None)
