"""The audit's rules: a clean history has no finding, and whatever is taken, doubled, swapped or changed is named."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kafka.consumer import Received
from audit.findings import Kind, Remedy, Report
from audit.records import set_aside
from audit.render import advice, as_json, notes, plan
from audit.rules import Judge, settle
from audit.topic_checks import CREATED, INDEXED, NOTIFIED, PROCESSED, SENT, TOPICS, Due, Seen, Trail, checks
from audit.topic_checks import trails as trails_of
from domain.audit import Found, Loose, Owing, Place, Position, Row, StoreFacts, Stray, Tally, Watermark
from schemas.codec import Record, record
from schemas.events import MediaUploaded, ReceiptRecorded
from schemas.topics import stages
from streams.dead_letters import ConsumerRecord, dead_letter
from tests import make

NOW = 10_000_000
GRACE = 30_000
ALL_DONE = dict.fromkeys(stages(), 1_000_000)
Records = list[Seen | None]


@dataclass
class History:
    """What store and topics hold; the tests damage it."""

    facts: StoreFacts
    topics: dict[str, Records]
    aside: dict[str, set[str]] = field(default_factory=lambda: {stage: set() for stage in stages()})
    committed: dict[str, int] = field(default_factory=lambda: dict(ALL_DONE))
    first_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0.0))
    known: dict[str, tuple[str, int]] = field(default_factory=dict)

    def change_row(self, at: int, **changes) -> Row:
        rows = list(self.facts.rows)
        rows[at] = replace(rows[at], **changes)
        self.facts = replace(self.facts, rows=rows)
        return rows[at]

    def audit(self) -> Report:
        report = Report()
        trails = trails_of(self.facts, self.aside, self.first_ms)
        for topic, records in self.topics.items():
            for offset, seen in enumerate(records):
                trails[topic].add(offset, seen)
        Judge(self.facts, trails, self.aside, self.committed, self.first_ms, GRACE, report).judge()
        for trail in trails.values():
            trail.close(self.known, report)
        settle(Loose(), report)
        return report


def history(*counts: int) -> History:
    """Conversations with so many messages each; every fifth has an attachment, every message one notification."""
    rows = [
        Row(
            message_id=f"m{room}-{seq}",
            conversation_id=f"room{room}",
            seq=seq,
            created_ms=seq * 1000,
            status=1,
            digest=f"{room}/{seq}".encode(),
            attachments=("pic",) if seq % 5 == 0 else (),
        )
        for room, count in enumerate(counts)
        for seq in range(1, count + 1)
    ]
    media = [Place(f"{r.message_id}:pic", r.message_id, r.conversation_id, 1000 + r.seq) for r in rows if r.attachments]
    noted = [Place(f"n-{r.message_id}", r.message_id, r.conversation_id, r.seq) for r in rows]
    facts = StoreFacts(
        now_ms=NOW,
        rows=rows,
        changes=len(rows),
        notifications=noted,
        media=media,
        tallies=[Tally(f"room{room}", 0, count, count) for room, count in enumerate(counts)],
        positions=[Position(f"room{room}", count, count) for room, count in enumerate(counts)],
    )
    whole: Records = [Seen(r.message_id, r.message_id, r.conversation_id, r.seq, r.digest) for r in rows]
    topics = {
        CREATED: list(whole),
        SENT: list(whole),
        INDEXED: [Seen(r.message_id, r.message_id, r.conversation_id, r.seq) for r in rows],
        NOTIFIED: [Seen(p.id, p.message_id, p.conversation_id, p.seq) for p in noted],
        PROCESSED: [Seen(p.id, p.message_id, p.conversation_id, p.seq) for p in media],
    }
    return History(facts, topics)


def only(report: Report, check: str, kind: Kind):
    """The one finding, which is of this check and kind."""
    assert [(f.check, f.kind) for f in report.findings] == [(check, kind)], report.findings
    return report.findings[0]


@given(st.lists(st.integers(0, 12), max_size=4))
def test_a_clean_history_has_no_finding(counts):
    report = history(*counts).audit()
    assert report.clean, report.findings
    assert report.check(CREATED).checked == sum(counts)
    assert all(check.waiting == 0 for check in report.checks.values())


@given(st.data())
def test_any_record_that_is_taken_away_is_named(data):
    found = history(12, 7)
    topic = data.draw(st.sampled_from(TOPICS))
    taken = found.topics[topic].pop(data.draw(st.integers(0, len(found.topics[topic]) - 1)))
    finding = only(found.audit(), topic, Kind.MISSING)
    assert (finding.message_id, finding.remedy) == (taken.message_id, Remedy.REPUBLISH)


@given(st.data())
def test_any_two_records_of_a_conversation_that_are_swapped_are_named(data):
    found = history(12, 7)
    topic = data.draw(st.sampled_from([topic for topic in TOPICS if topic not in (NOTIFIED, PROCESSED)]))
    records = found.topics[topic]
    places = [at for at, seen in enumerate(records) if seen.conversation_id == "room0"]
    first, second = sorted(data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=2, unique=True)))
    records[first], records[second] = records[second], records[first]
    report = found.audit()
    assert {(f.check, f.kind) for f in report.findings} == {(topic, Kind.OUT_OF_ORDER)}
    assert records[second].message_id in {f.message_id for f in report.findings}


@given(st.sampled_from([NOTIFIED, PROCESSED]), st.randoms())
def test_notifications_and_files_may_come_in_any_order(topic, chance):
    found = history(12, 7)
    chance.shuffle(found.topics[topic])
    assert found.audit().clean


@given(st.data())
def test_any_record_that_comes_again_later_is_counted_and_harms_nobody(data):
    found = history(12, 7)
    topic = data.draw(st.sampled_from(TOPICS))
    records = found.topics[topic]
    at = data.draw(st.integers(0, len(records) - 1))
    records.insert(data.draw(st.integers(at + 1, len(records))), records[at])
    report = found.audit()
    assert report.clean, report.findings
    assert report.check(topic).repeats == 1


@given(st.data())
def test_any_record_that_says_something_else_is_named(data):
    found = history(12)
    topic = data.draw(st.sampled_from(TOPICS))
    records = found.topics[topic]
    at = data.draw(st.integers(0, len(records) - 1))
    change = data.draw(st.sampled_from([{"seq": 99}, {"conversation_id": "other"}, {"digest": b"other"}]))
    records[at] = replace(records[at], **change)
    finding = only(found.audit(), topic, Kind.DIFFERENT)
    assert finding.message_id == records[at].message_id


@pytest.mark.parametrize("topic", TOPICS)
def test_a_record_of_nothing_is_a_phantom_unless_the_store_knows_it(topic):
    found = history(3)
    found.topics[topic].append(Seen("x", "x", "room0", 9))
    assert only(found.audit(), topic, Kind.PHANTOM).message_id == "x"
    found.known["x"] = ("room0", 9)
    assert found.audit().clean
    found.known["x"] = ("room7", 9)
    assert only(found.audit(), topic, Kind.DIFFERENT).message_id == "x"


def test_a_record_in_the_wrong_partition_is_named():
    trail = Trail(CREATED, {"m0-1": Due("m0-1", "m0-1", "room0", 1, b"0/1")})
    trail.add(0, Seen("m0-1", "m0-1", "room0", 1, b"0/1"), in_place=False)
    assert [f.kind for f in trail.findings] == [Kind.OUT_OF_ORDER]


def test_what_cannot_be_read_is_a_note():
    found = history(2)
    found.topics[CREATED].append(None)
    report = found.audit()
    assert report.clean
    assert "1 unreadable record;" in notes(report)[0]


@pytest.mark.parametrize(
    ("damage", "check", "remedy"),
    [
        ({"status": 0}, "status", Remedy.REPUBLISH),
        ({"document": Found.MISSING}, "search", Remedy.REPUBLISH),
        ({"outbox": Owing.GONE}, "outbox", Remedy.REPUBLISH),
        ({"change": False}, "messages", Remedy.NONE),
        ({"attachments": ("pic", "other")}, "media", Remedy.REPUBLISH),
    ],
)
def test_what_a_row_lacks_is_named(damage, check, remedy):
    found = history(6)
    row = found.change_row(3, **damage)
    finding = only(found.audit(), check, Kind.MISSING)
    assert (finding.message_id, finding.remedy) == (row.message_id, remedy)


def test_a_status_without_a_receipt_and_a_document_that_says_something_else_are_named():
    found = history(4)
    found.change_row(1, status=3, ahead=True)
    finding = only(found.audit(), "messages", Kind.DIFFERENT)
    assert (finding.seq, finding.remedy) == (2, Remedy.REFRESH)
    found.change_row(1, status=1, ahead=False, behind=True)
    finding = only(found.audit(), "messages", Kind.DIFFERENT)
    assert (finding.seq, finding.remedy) == (2, Remedy.REFRESH)
    found.change_row(1, behind=False, document=Found.DIFFERENT)
    finding = only(found.audit(), "search", Kind.DIFFERENT)
    assert (finding.seq, finding.remedy) == (2, Remedy.REFRESH)


@pytest.mark.parametrize(
    ("facts", "check", "kind"),
    [
        ({"holes": [("room0", 2)]}, "changes", Kind.MISSING),
        ({"stray_changes": [("room0", 9)]}, "changes", Kind.PHANTOM),
        ({"untold": [("room0", 2)]}, "outbox", Kind.MISSING),
        ({"repeated_keys": [Place("m0-2", "m0-2", "room0", 2)]}, "messages", Kind.DOUBLED),
        ({"watermarks": [Watermark("room0", "bob", 9, 2, 3)]}, "receipts", Kind.DIFFERENT),
        ({"tallies": [Tally("room0", 0, 3, 2)]}, "analytics", Kind.MISSING),
        ({"tallies": [Tally("room0", 0, 3, 5)]}, "analytics", Kind.DOUBLED),
        ({"positions": [Position("room0", 9, 3)]}, "analytics", Kind.PHANTOM),
    ],
)
def test_what_the_store_contradicts_is_named(facts, check, kind):
    found = history(3)
    found.facts = replace(found.facts, **facts)
    assert only(found.audit(), check, kind).conversation_id == "room0"


def test_what_the_relay_owes_is_late_and_not_missing():
    found = history(3)
    row = found.change_row(2, outbox=Owing.OWED, status=0, document=Found.MISSING)
    for records in found.topics.values():
        records[:] = [seen for seen in records if seen.message_id != row.message_id]
    found.facts = replace(found.facts, notifications=found.facts.notifications[:2])
    report = found.audit()
    assert report.clean, report.findings
    settle(Loose(owed=[("room0", 3, CREATED)]), report)
    assert (report.findings[-1].check, report.findings[-1].kind) == ("outbox", Kind.LATE)


def test_an_upload_that_is_not_inspected_is_late_unless_it_is_in_the_dead_letters():
    report = Report()
    settle(Loose(uninspected=["a", "b"]), report, {"b"})
    assert [(f.check, f.kind, f.text) for f in report.findings] == [
        ("media", Kind.LATE, "the upload a is not inspected")
    ]
    assert report.check("media").aside == 1


@pytest.mark.parametrize(
    ("event", "id_"),
    [
        (make.created(message_id=make.ROOM), make.ROOM),
        (MediaUploaded(media_id=make.ROOM, owner_id="alice", size=1, at=make.AT), make.ROOM),
        (ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, at=make.AT), None),
        (None, None),
    ],
)
def test_a_dead_letter_is_about_a_message_or_an_upload(event, id_):
    made = Record("nowhere", b"", b"no event") if event is None else record(event, producer="test")
    letter = dead_letter("media", ConsumerRecord(made.topic, 0, 7, made.key, made.value), "cause", attempts=1)
    assert set_aside(Received(letter.topic, 0, 0, letter.key, letter.value, letter.headers)) == id_


def test_a_young_message_is_not_judged():
    found = history(3)
    found.change_row(2, created_ms=NOW - GRACE + 1, status=0, document=Found.MISSING)
    found.facts = replace(found.facts, positions=[Position("room0", 2, 3)], tallies=[Tally("room0", 0, 2, 2)])
    for records in found.topics.values():
        del records[2:]
    report = found.audit()
    assert report.clean, report.findings
    waiting = {name for name, check in report.checks.items() if check.waiting}
    assert waiting == {CREATED, SENT, INDEXED, NOTIFIED, "status", "search", "analytics"}


@pytest.mark.parametrize("stage", ["status", "search"])
def test_what_a_stage_has_not_come_to_is_late_and_not_missing(stage):
    found = history(5)
    found.committed[stage] = 3
    for at in (3, 4):
        found.change_row(at, **({"status": 0} if stage == "status" else {"document": Found.MISSING}))
    del found.topics[SENT if stage == "status" else INDEXED][3:]
    finding = only(found.audit(), stage, Kind.LATE)
    assert "2 messages" in finding.text
    assert finding.remedy is Remedy.NONE


def test_what_comes_again_is_waited_for():
    found = history(5)
    found.change_row(1, status=0)
    found.topics[CREATED].append(found.topics[CREATED][1])
    found.committed["status"] = 5  # the repeat, at offset 5, is still to come
    assert found.audit().clean


@pytest.mark.parametrize(
    ("stage", "topic", "lacks"),
    [("status", SENT, {"status": 0}), ("search", INDEXED, {"document": Found.MISSING})],
)
def test_what_is_in_the_dead_letters_is_set_aside(stage, topic, lacks):
    found = history(5)
    row = found.change_row(2, **lacks)
    found.topics[topic].pop(2)
    found.aside[stage].add(row.message_id)
    report = found.audit()
    assert report.clean, report.findings
    assert (report.check(stage).aside, report.check(topic).aside) == (1, 1)


def test_a_count_that_lacks_what_is_set_aside_is_no_finding():
    found = history(3)
    found.facts = replace(found.facts, tallies=[Tally("room0", 0, 3, 2)])
    found.aside["analytics"].add("m0-2")
    report = found.audit()
    assert report.clean
    assert report.check("analytics").aside == 1


def lose_the_log(found: History, outbox: Owing, *topics: str) -> None:
    """These topics begin between the third and the fourth message, whose outbox rows say this."""
    found.facts = replace(found.facts, now_ms=50 * 3_600_000)
    for at in range(3):
        found.change_row(at, outbox=outbox)
    for topic in topics:
        found.first_ms[topic] = 3_500.0
        del found.topics[topic][:3]


@pytest.mark.parametrize("topic", [CREATED, SENT, NOTIFIED, INDEXED])
def test_what_is_older_than_the_log_and_kept_nowhere_is_said_and_not_missed(topic):
    found = history(5)
    lose_the_log(found, Owing.GONE, topic)
    report = found.audit()
    assert report.clean, report.findings
    assert report.check(topic).before_log == 3
    assert any("older than the log" in line for line in notes(report))


@pytest.mark.parametrize("topic", [CREATED, SENT, NOTIFIED, INDEXED])
def test_what_a_lost_log_must_get_again_is_missed_where_it_begins(topic):
    found = history(5)
    lose_the_log(found, Owing.PUBLISHED, topic)
    report = found.audit()
    assert {(f.check, f.kind, f.remedy) for f in report.findings} == {(topic, Kind.MISSING, Remedy.REPUBLISH)}
    assert (report.total, report.check(topic).before_log) == (3, 0)


def test_no_stage_is_blamed_for_what_a_lost_log_lacks():
    found = history(5)
    lose_the_log(found, Owing.PUBLISHED, CREATED, SENT, NOTIFIED)
    found.change_row(0, status=0)
    assert {(f.check, f.kind) for f in found.audit().findings} == {(CREATED, Kind.MISSING)}


def test_what_is_told_again_after_a_log_was_emptied_may_come_late():
    found = history(5)
    records = found.topics[CREATED]
    records[:] = records[3:] + records[:3]
    assert {f.kind for f in found.audit().findings} == {Kind.OUT_OF_ORDER}
    found.first_ms[CREATED] = 3_500.0
    assert found.audit().clean


def test_a_stage_may_write_what_it_was_about_to_into_a_log_that_was_emptied():
    found = history(5)
    records = found.topics[SENT]
    records.insert(0, records.pop(2))
    assert {(f.check, f.kind) for f in found.audit().findings} == {(SENT, Kind.OUT_OF_ORDER)}
    found.first_ms |= {CREATED: 3_500.0, SENT: 2_900.0}
    assert found.audit().clean


def test_an_emptied_log_does_not_hide_that_a_message_is_still_pending():
    found = history(3)
    found.facts = replace(found.facts, now_ms=50 * 3_600_000)
    for at, status in enumerate((0, 1, 1)):
        found.change_row(at, status=status, outbox=Owing.GONE)
    for topic in TOPICS:
        found.topics[topic].clear()
        found.first_ms[topic] = float("inf")
    assert only(found.audit(), "status", Kind.MISSING).remedy is Remedy.REPUBLISH


def test_what_an_audit_gave_out_again_may_come_late():
    found = history(5)
    found.topics[CREATED].append(found.topics[CREATED].pop(1))
    assert only(found.audit(), CREATED, Kind.OUT_OF_ORDER).seq == 2
    found.facts = replace(found.facts, republished={"m0-2"})
    assert found.audit().clean


def test_strays_are_phantoms_of_their_stage():
    report = Report()
    settle(Loose(strays=[Stray("search", Place("x", "x", "room0", 4))]), report)
    assert only(report, "search", Kind.PHANTOM).message_id == "x"


def test_the_plan_names_each_message_and_conversation_once():
    found = history(4)
    found.change_row(1, status=0, document=Found.MISSING)
    found.facts = replace(found.facts, tallies=[Tally("room0", 0, 4, 5), Tally("room0", 60_000, 4, 5)])
    report = found.audit()
    assert plan(report) == {Remedy.REPUBLISH: ["m0-2"], Remedy.REFRESH: [], Remedy.RECOUNT: ["room0"]}
    assert len(advice(report)) == 2
    found.change_row(2, ahead=True, document=Found.DIFFERENT)
    assert plan(found.audit())[Remedy.REFRESH] == ["m0-3"]


def test_the_json_has_a_line_for_each_check_and_the_total():
    found = history(4)
    found.change_row(1, status=0)
    said = as_json(found.audit(), {}, None, 0.1)
    assert (said["clean"], said["total"]) == (False, 1)
    assert {line["check"] for line in said["checks"]} == set(checks())
    status = next(line for line in said["checks"] if line["check"] == "status")
    assert (status["checked"], status["missing"], status["outOfOrder"]) == (4, 1, 0)
    assert said["findings"][0]["messageId"] == "m0-2"
