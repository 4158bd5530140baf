"""What an audit reads of PostgreSQL and Kafka is what is there; what it mends is mended, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from adapters.kafka.partitions import partition_of
from adapters.kafka.producer import open_log
from adapters.kafka.reader import open_reader
from adapters.kafka.topics import apply
from adapters.memory.log import MemoryLog
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.audit import PostgresAudit
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import Pool
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from domain.analytics import MinuteCount
from domain.audit import Found, LogBegin, Owing, Place, Position, Span, StoreFacts, Stray, Tally, Watermark, digest
from domain.errors import Unavailable
from domain.media import Media, MediaInfo
from domain.notifications import NotificationDraft
from domain.watermarks import Watermark as MemberWatermark
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from runtime.kafka_settings import Kafka
from schemas.codec import Record, decode
from schemas.ids import new_id
from schemas.messages import Message
from schemas.topics import load
from tests import make

HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


class World:
    """A conversation in PostgreSQL, and the audit's view of it."""

    def __init__(self, pool: Pool, room: str) -> None:
        self.pool, self.room, self.audit = pool, room, PostgresAudit(pool)

    async def send(self, *contents: str, **more: Any) -> list[Message]:
        drafts = [make.draft(content, conversationId=self.room, **more) for content in contents]
        return [outcome.message for outcome in await PostgresIntake(self.pool).accept(drafts)]

    async def make_blank(self, message: Message) -> None:
        """Take the text of a message away: it may have none beside attachments, or may be older than that rule."""
        await self.run("UPDATE messages SET content = %s WHERE message_id = %s", " \u2003\n", message.message_id)

    async def facts(self, start: int = 1) -> StoreFacts:
        return await self.audit.facts([Span(self.room, start)])

    async def run(self, statement: str, *values: Any) -> None:
        async with self.pool.connection() as conn:
            await conn.execute(statement, values)

    async def relayed(self, dsn: str) -> MemoryLog:
        """Let a relay publish all that is owed."""
        log = MemoryLog()
        async with open_outbox(dsn) as outbox:
            await outbox.claim()
            relay = Relay(lambda: open_outbox(dsn), log, LossDetector(log))
            while await relay.publish(outbox):
                pass
            await relay.mark(outbox)
        return log


@pytest.fixture
async def world(pool: Pool) -> World:
    room = new_id()
    await PostgresConversations(pool).create(room, None, "alice", ["bob", "carol"])
    return World(pool, room)


async def test_the_span_begins_with_the_first_message_of_the_window(world: World):
    await world.send("old", "older")
    past = HOUR_AGO - timedelta(minutes=1)
    await world.run("UPDATE messages SET created_at = %s WHERE conversation_id = %s", past, world.room)
    assert list(await world.audit.spans(HOUR_AGO, [world.room])) == [Span(world.room, 2)]  # its head, as it has changed
    await world.send("new", "newer")
    assert list(await world.audit.spans(HOUR_AGO, [world.room])) == [Span(world.room, 3)]
    assert Span(world.room, 3) in await world.audit.spans(HOUR_AGO, None)
    assert list(await world.audit.spans(datetime.now(UTC) + timedelta(minutes=6), [world.room])) == []


async def test_the_digest_is_the_same_in_sql_and_here(world: World):
    upload = Media(media_id=new_id(), owner_id="alice", file_name="Ä\\a", declared_type="b", size=1, sha256=world.room)
    other, files = replace(upload, media_id=new_id(), sha256=new_id()), PostgresMedia(world.pool)
    for media in (upload, other):
        await files.add(media)
    look = MediaInfo(media_type="video/mp4", width=4, height=3, duration_ms=5, blurhash="L#,~", thumbnail=b"t")
    await files.save_probe(upload.sha256, look)
    [first] = await world.send("Grüße\n\t'\"\\ 🌾 \u00a0")
    [second] = await world.send(
        "", type="image", attachments=[upload.media_id, other.media_id], replyTo=first.message_id
    )
    rows = (await world.facts()).rows
    assert [row.digest for row in rows] == [digest(first), digest(second)]
    assert digest(replace_content(first)) != digest(first)
    assert [(file.duration_ms, file.thumbnail) for file in second.attachments] == [(5, True), (None, False)]
    assert rows[1].attachments == (upload.media_id, other.media_id)


def replace_content(message: Message) -> Message:
    return msgspec.structs.replace(message, content="other")


async def test_a_fresh_message_is_pending_owed_and_not_found_yet(world: World):
    [message, blank] = await world.send("hi", "blank")
    await world.make_blank(blank)
    facts = await world.facts()
    row = facts.rows[0]
    assert (row.message_id, row.seq, row.status, row.change) == (message.message_id, 1, 0, True)
    assert (row.outbox, row.document, row.text) == (Owing.OWED, Found.MISSING, True)
    assert (facts.rows[1].message_id, facts.rows[1].text) == (blank.message_id, False)
    assert facts.changes == 2
    assert facts.positions == [Position(world.room, 0, 2)]
    assert abs(facts.now_ms - row.created_ms) < 60_000


async def test_what_the_stages_did_is_seen(world: World, pg_dsn: str):
    [message] = await world.send("hi")
    await world.relayed(pg_dsn)
    await PostgresSearch(world.pool).refresh([message.message_id])
    await PostgresStatuses(world.pool).mark_sent([message])
    minute = message.created_at[:16] + ":00.000Z"
    await PostgresCounts(world.pool).add([MinuteCount(world.room, 1, minute)])
    notice = NotificationDraft(new_id(), message.message_id, world.room, 1, "bob")
    await PostgresNotifications(world.pool).add([notice])
    facts = await world.facts()
    [row] = facts.rows
    assert (row.status, row.outbox, row.document, row.ahead) == (1, Owing.PUBLISHED, Found.THERE, False)
    assert facts.notifications == [Place(notice.notification_id, message.message_id, world.room, 1)]
    assert [(t.stored, t.counted) for t in facts.tallies] == [(1, 1)]
    assert facts.positions == [Position(world.room, 1, 1)]
    await world.run("UPDATE search_documents SET digest = 'x' WHERE message_id = %s", message.message_id)
    assert (await world.facts()).rows[0].document is Found.DIFFERENT


async def test_holes_and_strays_of_the_change_log(world: World):
    first, second, third = await world.send("a", "b", "c")
    await world.run("DELETE FROM changes WHERE conversation_id = %s AND seq = 2", world.room)
    await world.run("DELETE FROM messages WHERE message_id = %s", third.message_id)
    await world.run("INSERT INTO changes (conversation_id, seq, kind) VALUES (%s, 7, 'media_ready')", world.room)
    facts = await world.facts()
    assert facts.holes == [(world.room, 2)]
    assert facts.stray_changes == [(world.room, 3), (world.room, 7)]
    changes = {row.message_id: row.change for row in facts.rows}
    assert changes == {first.message_id: True, second.message_id: False}
    assert (await world.facts(3)).holes == [(world.room, 2)]  # the one before the window too


async def test_a_change_of_membership_has_an_outbox_row(world: World):
    await PostgresConversations(world.pool).add(world.room, "dave", "alice")
    assert (await world.facts()).untold == []
    await world.run("DELETE FROM outbox WHERE conversation_id = %s AND seq = 1", world.room)
    assert (await world.facts()).untold == [(world.room, 1)]


async def test_a_status_needs_the_receipt_of_another_member(world: World):
    await world.send("a", "b")
    await PostgresStatuses(world.pool).advance([MemberWatermark(world.room, "bob", 2, 1)], 32)
    facts = await world.facts()
    assert [(row.status, row.ahead) for row in facts.rows] == [(3, False), (2, False)]
    assert (facts.receipts, facts.watermarks) == (1, [])
    await world.run("UPDATE messages SET status = 3 WHERE conversation_id = %s AND seq = 2", world.room)
    await world.run("UPDATE receipts SET delivered_seq = 9 WHERE conversation_id = %s", world.room)
    facts = await world.facts()
    assert [row.ahead for row in facts.rows] == [False, True]
    assert facts.watermarks == [Watermark(world.room, "bob", 9, 1, 2)]


async def test_a_refresh_sets_statuses_and_documents_to_what_the_store_says(world: World):
    messages = await world.send("a", "b", "c", "d", "blank")
    await world.make_blank(messages[4])
    await PostgresStatuses(world.pool).mark_sent(messages[:4])
    await PostgresStatuses(world.pool).advance([MemberWatermark(world.room, "bob", 2, 1)], 32)
    await PostgresSearch(world.pool).refresh([message.message_id for message in messages[:3]])
    await world.run("UPDATE messages SET status = 3 WHERE conversation_id = %s AND seq IN (2, 3)", world.room)
    await world.run("UPDATE messages SET status = 1 WHERE conversation_id = %s AND seq = 1", world.room)
    await world.run(
        "UPDATE search_documents SET digest = 'x', seq = 99, sender_id = 'y' WHERE conversation_id = %s", world.room
    )
    facts = await world.facts()
    assert [(row.ahead, row.behind) for row in facts.rows] == [
        (False, True),
        (True, False),
        (True, False),
        (False, False),
        (False, False),
    ]
    ids = [message.message_id for message in messages]
    assert await world.audit.refresh(ids, 60.0) == 0  # too young
    assert await world.audit.refresh(ids, 0.0) == 5
    facts = await world.facts()
    assert [row.status for row in facts.rows] == [3, 2, 1, 1, 0]
    assert not any(row.ahead or row.behind for row in facts.rows)
    assert [row.document for row in facts.rows] == [*[Found.THERE] * 4, Found.MISSING]


async def test_a_message_that_comes_again_puts_the_count_of_its_minute_right(world: World):
    messages = await world.send("a", "b", "c")
    counts = PostgresCounts(world.pool)
    ticks = [MinuteCount(world.room, m.seq, m.created_at[:16] + ":00.000Z") for m in messages]
    right = await counts.add(ticks[:2])
    await world.run("UPDATE analytics_minutes SET messages = 40 WHERE conversation_id = %s", world.room)
    assert await counts.add(ticks[:1]) == right[:1]
    await world.run("DELETE FROM analytics_minutes WHERE conversation_id = %s", world.room)
    assert sum(total.messages for total in await counts.add(ticks)) == 3


async def test_counts_are_compared_up_to_the_cursor_and_counted_anew(world: World):
    messages = await world.send("a", "b", "c")
    minute = messages[0].created_at[:16] + ":00.000Z"
    await PostgresCounts(world.pool).add([MinuteCount(world.room, seq, minute) for seq in (1, 2)])
    assert [(t.stored, t.counted) for t in (await world.facts(3)).tallies] == [(2, 2)]
    await world.run("UPDATE analytics_minutes SET messages = 5 WHERE conversation_id = %s", world.room)
    at = datetime(2020, 1, 1, tzinfo=UTC)
    await world.run("INSERT INTO analytics_minutes VALUES (%s, %s, 4)", world.room, at + timedelta(days=9000))
    assert sorted((t.stored, t.counted) for t in (await world.facts()).tallies) == [(0, 4), (2, 5)]
    assert await world.audit.recount([world.room]) == 2
    assert [(t.stored, t.counted) for t in (await world.facts()).tallies] == [(2, 2)]
    await world.run("UPDATE stage_cursors SET seq = 8 WHERE conversation_id = %s", world.room)
    assert await world.audit.recount([world.room]) == 1
    facts = await world.facts()
    assert facts.positions == [Position(world.room, 3, 3)]
    assert facts.tallies == [Tally(world.room, facts.tallies[0].minute_ms, 3, 3)]


async def test_what_is_kept_about_no_message_is_a_stray(world: World):
    [message] = await world.send("a")
    ghost = make.message(conversation_id=world.room, seq=5)
    await PostgresSearch(world.pool).refresh([message.message_id])
    await world.run(
        """INSERT INTO search_documents SELECT %s, conversation_id, 5, sender_id, words, digest, created_at
           FROM search_documents WHERE message_id = %s""",
        ghost.message_id,
        message.message_id,
    )
    notice = NotificationDraft(new_id(), ghost.message_id, world.room, 5, "bob")
    await PostgresNotifications(world.pool).add([notice])
    loose = await world.audit.loose(HOUR_AGO, 0, [world.room])
    assert sorted(loose.strays, key=lambda stray: stray.stage) == [
        Stray("notification", Place(notice.notification_id, ghost.message_id, world.room, 5)),
        Stray("search", Place(ghost.message_id, ghost.message_id, world.room, 5)),
    ]
    assert await world.audit.known("message.sent", [message.message_id, ghost.message_id, "x"]) == {
        message.message_id: (world.room, 1)
    }
    assert await world.audit.known("notification.sent", [notice.notification_id]) == {
        notice.notification_id: (world.room, 5)
    }


async def test_only_what_is_older_than_the_grace_is_owed(world: World):
    await world.send("a")
    owed = (world.room, 1, "message.created")
    assert owed in (await world.audit.loose(HOUR_AGO, 0, [world.room])).owed
    assert (await world.audit.loose(HOUR_AGO, 60, [world.room])).owed == []


async def test_an_upload_that_is_not_inspected_is_named_once_it_is_older_than_the_grace(world: World):
    files, media = PostgresMedia(world.pool), make.upload()
    await files.add(media)
    assert (await world.audit.loose(HOUR_AGO, 60, None)).uninspected == []
    assert (await world.audit.loose(HOUR_AGO, 0, [world.room])).uninspected == []
    assert media.media_id in (await world.audit.loose(HOUR_AGO, 0, None)).uninspected
    assert (await world.audit.loose(datetime.now(UTC) + timedelta(minutes=1), 0, None)).uninspected == []
    await files.save_probe(media.sha256, MediaInfo(media_type="x/y", served="original"))
    assert media.media_id not in (await world.audit.loose(HOUR_AGO, 0, None)).uninspected


async def test_republishing_gives_the_relay_what_was_accepted_and_leaves_the_rest_alone(world: World, pg_dsn: str):
    messages = await world.send("published", "gone", "young", "owed")
    await world.run("UPDATE outbox SET published_at = now() WHERE conversation_id = %s AND seq < 4", world.room)
    await world.run("DELETE FROM outbox WHERE conversation_id = %s AND seq = 2", world.room)
    past = datetime.now(UTC) - timedelta(minutes=1)
    older = "UPDATE messages SET created_at = %s, status = 2 WHERE conversation_id = %s AND seq <> 3"
    await world.run(older, past, world.room)
    ids = [message.message_id for message in messages]
    assert await world.audit.republish(ids, 30) == 2
    assert await world.audit.republish(ids, 30) == 0  # the relay owes them by now
    facts = await world.facts()
    assert [row.outbox for row in facts.rows] == [Owing.OWED, Owing.OWED, Owing.PUBLISHED, Owing.OWED]
    assert facts.republished == set(ids[:2])
    log = await world.relayed(pg_dsn)
    mine = [r for r in log.records if r.key == world.room.encode() and r.topic == "message.created"]
    events = [decode(r.topic, r.key, r.value).message for r in mine]
    assert [(e.message_id, e.content, e.status) for e in events[:2]] == [
        (ids[0], "published", "pending"),
        (ids[1], "gone", "pending"),
    ]
    assert [digest(event) for event in events[:2]] == [row.digest for row in facts.rows[:2]]


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    name = f"test.{new_id()}"
    await apply(kafka, [replace(load()[0], name=name, partitions=3)], replication=1)
    return name


async def test_the_reader_reads_from_the_window_to_the_end_and_no_further(kafka: Kafka, topic: str):
    keys = [new_id().encode() for _ in range(20)]
    async with open_log(kafka) as log, open_reader(kafka) as reader:
        assert (await reader.begins([topic], 1000)).topics[topic] == [LogBegin(0, inf)] * 3
        await log.append([Record(topic, key, b"%d" % n) for n, key in enumerate(keys)])
        begins = await reader.begins([topic], 1000)
        assert {begin.offset for begin in begins.topics[topic]} == {0}
        assert 0 < begins.of(topic, 0).first_ms < inf  # nothing is older than the first record
        got = [r async for batch in reader.read({(topic, n): 0 for n in range(3)}) for r in batch]
        assert sorted(got, key=lambda r: int(r.value)) == sorted(got, key=lambda r: keys.index(r.key))
        assert {r.key: r.partition for r in got} == {key: partition_of(key, 3) for key in keys}
        later = int(datetime.now(UTC).timestamp() * 1000) + 60_000
        begins = await reader.begins([topic], later)
        assert sum(begin.offset for begin in begins.topics[topic]) == 20
        offsets = {(topic, n): begin.offset for n, begin in enumerate(begins.topics[topic])}
        assert [batch async for batch in reader.read(offsets)] == []
        assert [begin.first_ms for begin in begins.topics[topic]] == [0.0] * 3


async def test_a_partition_that_was_trimmed_begins_with_what_is_left(kafka: Kafka, topic: str):
    key = new_id().encode()
    mine = partition_of(key, 3)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    async with open_log(kafka) as log, open_reader(kafka) as reader:
        await log.append([Record(topic, key, b"%d" % n) for n in range(5)])
        await admin.delete_records({TopicPartition(topic, mine): RecordsToDelete(2)})
        begins = (await reader.begins([topic], 1000)).topics[topic]
        assert begins[mine].offset == 2
        assert 0 < begins[mine].first_ms < inf
        assert [begin.first_ms for n, begin in enumerate(begins) if n != mine] == [0.0, 0.0]  # they held nothing before
        assert [r.offset async for batch in reader.read({(topic, mine): 2}) for r in batch] == [2, 3, 4]
    await admin.close()


async def test_a_topic_that_is_not_there_is_said(kafka: Kafka):
    async with open_reader(kafka) as reader:
        with pytest.raises(Unavailable, match="topics apply"):
            await reader.begins(["no.such.topic"], 1000)
