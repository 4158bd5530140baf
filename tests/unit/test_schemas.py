"""Topics, events and frames agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import orjson
import pytest

from domain.changes import change_of
from schemas import frames
from schemas.codec import Malformed, decode, record
from schemas.events import BY_TOPIC, EVENTS
from schemas.ids import is_uuid, new_id
from schemas.messages import Status
from schemas.topics import BadTopics, load
from tests import make

TOPICS_DOC = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
TOPICS = {topic.name: topic for topic in load()}


def test_the_file_and_the_code_name_the_same_topics():
    assert {name for name in TOPICS if not name.endswith(".dlq")} == BY_TOPIC.keys()


@pytest.mark.parametrize("kind", EVENTS)
def test_the_documentation_names_the_fields_of_an_event(kind):
    [row] = re.findall(rf"^\| `{re.escape(kind.TOPIC)}` \| `{{(.*?)}}`", TOPICS_DOC, re.MULTILINE)
    assert row.split(", ") == [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("kind", EVENTS)
def test_the_schema_of_a_topic_is_the_version_of_its_event(kind):
    assert TOPICS[kind.TOPIC].schema == f"{kind.TOPIC}.v{kind.VERSION}"


def test_all_topics_have_one_partition_count_so_that_conversations_have_one_number():
    assert len({topic.partitions for topic in TOPICS.values()}) == 1


def test_content_is_kept_at_most_seven_days(tmp_path):
    text = "topics: {a: {key: k, schema: s, writers: [], readers: [], partitions: 1, replication: 1,"
    text += " cleanup: delete, retention: 8d, owner: o, content: true, doc: d}}"
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(BadTopics, match="7 days"):
        load(tmp_path / "t.yaml")


def test_an_event_survives_the_way_through_kafka():
    event = make.created(content="Zoë 🦊")
    sent = record(event, producer="test")
    assert decode(sent.topic, sent.value) == event
    assert sent.key == make.ROOM.encode()


def test_readers_ignore_fields_they_do_not_know():
    event = make.created()
    grown = {**orjson.loads(record(event, producer="t").value), "later": 1}
    assert decode(event.TOPIC, orjson.dumps(grown)) == event


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"null", b'{"message":5}', b"[" * 100_000, b"\xff"])
def test_bytes_that_are_no_event_are_malformed(raw):
    with pytest.raises(Malformed):
        decode("message.created", raw)


def test_a_frame_is_the_same_live_and_replayed():
    change = change_of(make.sent(seq=7))
    said = orjson.loads(frames.of_change(change))
    assert said["type"] == "new_message"
    assert (said["seq"], said["message"]["content"]) == (7, "hi")
    joined = orjson.loads(frames.of_change(change_of(make.member_added(8))))
    assert joined["type"] == "conversation_changed"
    assert (joined["seq"], joined["change"], joined["userId"]) == (8, "member_added", "carol")


def test_ids_sort_by_time_and_are_version_7():
    ids = [new_id() for _ in range(100)]
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)
    assert all(is_uuid(i) and i[14] == "7" for i in ids)


def test_status_only_has_one_order():
    assert [s.wire for s in Status] == ["pending", "sent", "delivered", "read"]


def test_a_receipt_from_before_there_were_devices_is_still_read():
    old = b'{"conversationId":"c","userId":"bob","deliveredSeq":3,"readSeq":1,"at":"2026-11-24T15:00:00.000Z"}'
    assert decode("receipt.recorded", old).device == "-"
