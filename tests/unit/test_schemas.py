"""Topics, events and frames agree with each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from domain.changes import change_of
from schemas import frames
from schemas.codec import Malformed, decode, record
from schemas.events import BY_TOPIC, EVENTS
from schemas.fields import MAX_RECORD_LIST, MAX_RECORD_TEXT, MAX_SEQ
from schemas.ids import is_uuid, new_id
from schemas.messages import Change, Status
from schemas.topics import BadTopics, load
from tests import make

TOPICS_DOC = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
OTHER = "01900000-0000-7000-8000-0000000000aa"
FILE = {"mediaId": OTHER, "name": "a.png", "type": "image/png", "size": 3}
TOPICS = {topic.name: topic for topic in load()}


def test_the_file_and_the_code_name_the_same_topics():
    assert {name for name in TOPICS if not name.endswith((".dlq", ".retry"))} == BY_TOPIC.keys()


@pytest.mark.parametrize("kind", EVENTS)
def test_the_documentation_names_the_fields_of_an_event(kind):
    [row] = re.findall(rf"^\| `{re.escape(kind.TOPIC)}` \| `{{(.*?)}}`", TOPICS_DOC, re.MULTILINE)
    assert row.split(", ") == [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("kind", EVENTS)
def test_the_schema_of_a_topic_is_the_version_of_its_event(kind):
    assert TOPICS[kind.TOPIC].schema == f"{kind.TOPIC}.v{kind.VERSION}"


def test_all_topics_have_one_partition_count_so_that_conversations_have_one_number():
    assert len({topic.partitions for topic in TOPICS.values()}) == 1


@pytest.mark.parametrize(
    ("retention", "config"),
    [
        ("8d", "{segment.ms: 1000}"),
        ("6d", "{segment.ms: 172800000}"),
        ("1d", "{}"),
    ],  # the broker's segments last a week
)
def test_content_is_kept_at_most_seven_days(tmp_path, retention: str, config: str):
    text = "topics: {a: {key: k, schema: s, writers: [], readers: [], partitions: 1, replication: 1,"
    text += f" cleanup: delete, retention: {retention}, owner: o, content: true, doc: d, config: {config}}}}}"
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(BadTopics, match="7 days"):
        load(tmp_path / "t.yaml")


def test_a_record_with_content_is_deleted_within_a_week():
    day = 86_400_000
    assert all(topic.longest_ms <= 7 * day for topic in TOPICS.values() if topic.content)
    assert TOPICS["message.created"].longest_ms == 7 * day


def test_an_event_survives_the_way_through_kafka():
    event = make.created(content="Zoë 🦊")
    sent = record(event, producer="test")
    assert decode(sent.topic, sent.key, sent.value) == event
    assert sent.key == make.ROOM.encode()


def test_readers_ignore_fields_they_do_not_know():
    event = make.created()
    grown = {**orjson.loads(record(event, producer="t").value), "later": 1}
    assert decode(event.TOPIC, make.ROOM.encode(), orjson.dumps(grown)) == event


@pytest.mark.parametrize("raw", [None, b"", b"{}", b"null", b'{"message":5}', b"[" * 100_000, b"\xff"])
def test_bytes_that_are_no_event_are_malformed(raw):
    with pytest.raises(Malformed):
        decode("message.created", make.ROOM.encode(), raw)


GROWN = (
    {"type": "poll", "status": "archived", "senderId": "auth0|zoe", "content": "x" * 20_000},
    {"attachments": [{**FILE, "later": 1}] * 40, "seq": MAX_SEQ, "senderId": "a" * 128, "later": {"deep": [1]}},
)


@pytest.mark.parametrize("grown", GROWN)
def test_readers_take_what_a_later_release_may_write(grown):
    fields = {**msgspec.to_builtins(make.message()), **grown}
    event = decode("message.created", make.ROOM.encode(), orjson.dumps({"message": fields}))
    assert event.message.type == fields["type"]


def test_an_entry_of_an_unknown_kind_passes_and_moves_the_cursor():
    event = make.member_added(8, change="title_changed")
    made = record(event, producer="later")
    change = change_of(decode(made.topic, made.key, made.value))
    assert (change.kind, change.seq) == ("title_changed", 8)
    assert orjson.loads(frames.of_change(change))["seq"] == 8
    grown = Change(conversation_id=make.ROOM, seq=9, kind="poll_closed", data={"poll": 1})
    assert orjson.loads(frames.of_change(grown)) == {
        "type": "conversation_changed",
        "conversationId": make.ROOM,
        "seq": 9,
        "change": "poll_closed",
        "poll": 1,
    }


BAD: dict[str, list[Any]] = {
    "messageId": ["", "7", OTHER.upper(), OTHER + "\n", "{" + OTHER + "}", None, 5],
    "conversationId": ["staging-42", "\0", "*", OTHER],
    "seq": [0, -1, MAX_SEQ + 1, 2**64, 1.5, "1", True, None],
    "senderId": ["", " ", "a b", "a\n", "a\0", "zoë", "x" * 256, None],
    "type": ["", "T", "text ", "x" * 65, None],
    "content": [None, "x" * (MAX_RECORD_TEXT + 1)],
    "attachments": [
        None,
        "x",
        [OTHER],
        [{**FILE, "mediaId": "x"}],
        [{**FILE, "size": -1}],
        [FILE] * (MAX_RECORD_LIST + 1),
    ],
    "replyTo": ["", "x", 1],
    "createdAt": ["", "now", "2026-13-01T00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T00:00:00.000Z\n"],
    "status": ["", "\x1b[31m", None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_what_no_release_writes_is_malformed_and_its_value_is_not_told(field, value):
    fields = {**msgspec.to_builtins(make.message()), field: value}
    with pytest.raises(Malformed) as caught:
        decode("message.created", make.ROOM.encode(), msgspec.json.encode({"message": fields}))
    assert str(caught.value).isprintable()
    assert "regex" not in str(caught.value)


@pytest.mark.parametrize("key", [None, b"", b"\xff", OTHER.encode(), make.ROOM.upper().encode() + b" "])
def test_the_key_is_that_of_the_conversation(key):
    with pytest.raises(Malformed, match="key"):
        decode("message.created", key, record(make.created(), producer="t").value)


@pytest.mark.parametrize(("change", "seq"), [("created", 1), ("member_added", 0)])
def test_only_a_creation_has_no_place_in_the_change_log(change, seq):
    value = orjson.dumps({**msgspec.to_builtins(make.member_added(1)), "change": change, "seq": seq})
    with pytest.raises(Malformed, match="seq"):
        decode("conversation.changed", make.ROOM.encode(), value)


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
    old = {"conversationId": make.ROOM, "userId": "bob", "deliveredSeq": 3, "readSeq": 1, "at": make.AT}
    assert decode("receipt.recorded", make.ROOM.encode(), orjson.dumps(old)).device == "-"
