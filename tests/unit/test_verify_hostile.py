"""Foreign records and attacks: each is what it says, and each is drawn as a fault."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from audit.findings import Finding, Kind
from schemas.codec import Malformed, decode
from schemas.events import BY_TOPIC
from schemas.ids import new_id
from verify.attacks import ATTACKS
from verify.attacks.media import picture
from verify.checker import judge
from verify.faults import FAULTS
from verify.final_state import FinalState
from verify.foreign_records import CLAIMS, KINDS, ForeignRecord, KnownMessage, foreign_records
from verify.history import History, InjectedFault, Room
from verify.rules.foreign import audit_names_the_foreign
from verify.schedule import arrange

KNOWN = KnownMessage(conversation_id=new_id(), message_id=new_id(), seq=7, sender_id="ann")


def decodes(record: ForeignRecord) -> bool:
    try:
        decode(record.topic, record.key, record.value)
    except Malformed:
        return False
    return True


def test_there_are_more_than_twenty_kinds():
    assert len(KINDS) > 20 and set(KINDS) > CLAIMS


@pytest.mark.parametrize("topic", BY_TOPIC)
def test_a_topic_gets_a_record_of_every_kind(topic: str):
    records = list(foreign_records(topic, KNOWN, random.Random(1)))
    assert [record.kind for record in records] == list(KINDS)
    assert all(record.topic == topic for record in records)
    assert all(record.key or record.value for record in records)  # Kafka refuses a record of nothing


@pytest.mark.parametrize("topic", BY_TOPIC)
def test_claims_are_well_formed_and_near_to_what_the_store_has(topic: str):
    for record in foreign_records(topic, KNOWN, random.Random(2)):
        if record.kind in CLAIMS:
            assert decodes(record), record.kind
        if record.kind in {"next-seq", "far-seq", "same-place", "other-content"}:
            assert KNOWN.conversation_id.encode() in record.value
            assert record.key == KNOWN.conversation_id.encode()


@pytest.mark.parametrize("topic", BY_TOPIC)
def test_bytes_that_are_no_event_are_malformed(topic: str):
    broken = ("tombstone", "empty", "not-json", "not-utf8", "scalar", "array", "truncated", "nested")
    for record in foreign_records(topic, KNOWN, random.Random(3), broken):
        assert not decodes(record), record.kind


def test_a_dear_picture_is_small_and_valid():
    content = picture(4_000, 3_000)
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        assert opened.size == (4_000, 3_000)
    assert len(content) < 100_000


def test_poison_and_attacks_are_faults():
    assert {f"hostile-{name}" for name in ATTACKS} <= FAULTS.keys()
    assert {"poison-message.created", "poison-receipt.recorded", "poison-message.sent"} <= FAULTS.keys()
    assert [planned.fault for planned in arrange(1, ["poison-message.created"], 60)[0]] == ["poison-message.created"]


def test_two_attacks_never_run_at_once():
    plan, _ = arrange(3, ["hostile-frames", "hostile-searches"], 120)
    first, second = plan
    assert first.at_s + first.lasts_s < second.at_s


def finding(record, check: str = "message.created") -> Finding:
    message = decode(record.topic, record.key, record.value).message
    return Finding(
        check=check,
        kind=Kind.PHANTOM,
        conversation_id=message.conversation_id,
        seq=message.seq,
        message_id=message.message_id,
        text="the store has nothing of this id",
    )


def test_the_audit_must_name_each_foreign_claim_and_nothing_else():
    foreign = list(foreign_records("message.created", KNOWN, random.Random(4)))
    judged = [KNOWN.conversation_id]
    named = [finding(record) for record in foreign if record.kind in CLAIMS]
    assert not list(audit_names_the_foreign(named, foreign, foreign, judged))
    (missing,) = audit_names_the_foreign([f for f in named if f.seq != KNOWN.seq + 1], foreign, foreign, judged)
    assert "next-seq" in missing.text
    (extra,) = audit_names_the_foreign([*named, finding(foreign[-1], "search")], foreign, foreign, judged)
    assert extra.text.startswith("search: phantom")


def test_a_claim_that_the_log_may_not_have_need_not_be_named():
    foreign = list(foreign_records("message.created", KNOWN, random.Random(5)))
    judged = [KNOWN.conversation_id]
    named = [finding(record) for record in foreign if record.kind in CLAIMS]
    assert not list(audit_names_the_foreign([], foreign, [], judged))
    assert not list(audit_names_the_foreign(named, foreign, [], judged))


@pytest.mark.parametrize(("fault", "violations"), [("kill-kafka", True), ("wipe-kafka", False)])
def test_what_a_broker_has_lost_need_not_be_named(fault: str, violations: bool):
    foreign = list(foreign_records("message.created", KNOWN, random.Random(6)))
    history = History("v", 1, faults=[InjectedFault(fault, 1, 1, True)], foreign=foreign, written=foreign, quiet_s=1.0)
    history.rooms = [Room(conversation_id=KNOWN.conversation_id)]
    state = FinalState(KNOWN.conversation_id, 0, [], [])
    unnamed = [v for v in judge(history, [state]) if "is not named" in v.text]
    assert len(unnamed) == (len(CLAIMS) - 2 if violations else 0)  # two are about another conversation
