"""Rules of the audit: facts in, findings out. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audit.findings import Finding, Kind, Remedy, Report
from audit.topic_checks import CREATED, STAGE, Due, Trail
from domain.audit import Found, Loose, Owing, Place, Row, StoreFacts
from schemas.clock import wire_seconds
from schemas.messages import Status

_MINUTE_MS = 60_000


@dataclass(slots=True)
class Judge:
    """Compares the facts of one partition.

    ``committed``: offset of ``message.created`` up to which each stage had finished *before* the store was read, so
    that the effects of all earlier records must be in the store. ``first_ms``: time at which the log of a topic begins;
    records of older messages may have been in a part that is gone.
    """

    facts: StoreFacts
    trails: Mapping[str, Trail]
    aside: Mapping[str, Collection[str]]
    committed: Mapping[str, int]
    first_ms: Mapping[str, float]
    grace_ms: float
    report: Report
    _rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = {row.message_id: row for row in self.facts.rows}

    def judge(self) -> None:
        """Run all checks. The trails must have been read; the caller closes them."""
        self._messages()
        self._changes()
        self._receipts()
        self._created()
        for topic in STAGE:
            self._completions(topic)
        self._effects()
        self._counts()

    # What is judged

    def _young(self, row: Row) -> bool:
        return row.created_ms > self.facts.now_ms - self.grace_ms

    def _reached(self, stage: str, row: Row) -> bool:
        """Return True when the stage is past the last record of the message, or the log has lost that record."""
        last = self.trails[CREATED].last.get(row.message_id)
        if last is None:
            return self._before_log(CREATED, row)
        return last < self.committed[stage]

    def _before_log(self, topic: str, row: Row) -> bool:
        """Return True when the record is older than the log and has no outbox row to publish it from again."""
        return row.outbox is Owing.GONE and row.created_ms < self.first_ms[topic]

    def _find(self, check: str, kind: Kind, row: Row | Due, text: str, remedy: Remedy = Remedy.NONE) -> None:
        self.report.add(
            Finding(
                check=check,
                kind=kind,
                conversation_id=row.conversation_id,
                seq=row.seq,
                message_id=row.message_id,
                text=text,
                remedy=remedy,
            )
        )

    # The store in itself

    def _messages(self) -> None:
        check = self.report.check("messages")
        check.checked += len(self.facts.rows)
        outbox = self.report.check("outbox")
        for row in self.facts.rows:
            if not row.change:
                self._find("messages", Kind.MISSING, row, "the message has no entry in the change log")
            if row.ahead and not self._young(row):
                status = Status(row.status).wire
                text = f"it is {status}, and no receipt of a member says so"
                self._find("messages", Kind.DIFFERENT, row, text, Remedy.REFRESH)
            if row.behind and not self._young(row):
                text = f"it is {Status(row.status).wire}, and a receipt of a member says more"
                self._find("messages", Kind.DIFFERENT, row, text, Remedy.REFRESH)
            if row.outbox is not Owing.GONE:
                outbox.checked += 1
                outbox.waiting += row.outbox is Owing.OWED and self._young(row)
            elif row.created_ms > self.facts.now_ms - self.facts.kept_ms:
                self._find("outbox", Kind.MISSING, row, "it has no outbox row", Remedy.REPUBLISH)
        for place in self.facts.repeated_keys:
            self.report.add(_of_place("messages", Kind.DOUBLED, place, "its sender used its idempotency key before"))

    def _changes(self) -> None:
        self.report.check("changes").checked += self.facts.changes
        self._lines("changes", Kind.MISSING, self.facts.holes, "the change log has no such seq")
        self._lines("changes", Kind.PHANTOM, self.facts.stray_changes, "beyond the head, or of no message")
        self._lines("outbox", Kind.MISSING, self.facts.untold, "a change of membership has no outbox row")

    def _lines(self, check: str, kind: Kind, places: Iterable[tuple[str, int]], text: str) -> None:
        for conversation, seq in places:
            self.report.add(Finding(check=check, kind=kind, conversation_id=conversation, seq=seq, text=text))

    def _receipts(self) -> None:
        self.report.check("receipts").checked += self.facts.receipts
        for mark in self.facts.watermarks:
            text = f"{mark.user_id}: delivered {mark.delivered_seq}, read {mark.read_seq}, head {mark.head}"
            self.report.add(
                Finding(check="receipts", kind=Kind.DIFFERENT, conversation_id=mark.conversation_id, text=text)
            )

    # The topics

    def _created(self) -> None:
        check, first = self.report.check(CREATED), self.trails[CREATED].first
        for row in self.facts.rows:
            check.checked += 1
            if row.message_id in first:
                continue
            if self._young(row) or row.outbox is Owing.OWED:
                check.waiting += 1
            elif self._before_log(CREATED, row):
                check.before_log += 1
            else:
                text = "its outbox row is published" if row.outbox is Owing.PUBLISHED else "its outbox row is gone"
                self._find(CREATED, Kind.MISSING, row, f"the topic has no record of it; {text}", Remedy.REPUBLISH)

    def _completions(self, topic: str) -> None:
        check, trail, stage = self.report.check(topic), self.trails[topic], STAGE[topic]
        for due in trail.due.values():
            row = self._rows[due.message_id]
            check.checked += 1
            if due.id in trail.first:
                continue
            if self._young(row) or not self._reached(stage, row):
                check.waiting += 1
            elif due.message_id in self.aside[stage]:
                check.aside += 1
            elif self._before_log(topic, row):
                check.before_log += 1
            else:
                self._find(topic, Kind.MISSING, due, f"{stage} is past it and has not published it", Remedy.REPUBLISH)

    # The stages

    def _effects(self) -> None:
        places = {place.id for place in self.facts.media}

        def unplaced(row: Row) -> bool:
            return any(f"{row.message_id}:{media}" not in places for media in row.attachments)

        rows = self.facts.rows
        self._effect("status", rows, lambda row: row.status == Status.PENDING, "it is still pending")
        texts = [row for row in rows if row.text]
        self._effect("search", texts, lambda row: row.document is Found.MISSING, "it has no search document")
        self._effect("media", [r for r in rows if r.attachments], unplaced, "an attachment has no place")
        self._effect("notification", rows, lambda _: False, "")  # who was away then, nobody knows now
        cursors = {position.conversation_id: position.cursor for position in self.facts.positions}
        self._effect("analytics", rows, lambda row: row.seq > cursors.get(row.conversation_id, 0), "it is not counted")
        for row in texts:
            if row.document is Found.DIFFERENT and not self._young(row):
                text = "the search document does not say what the message says"
                self._find("search", Kind.DIFFERENT, row, text, Remedy.REFRESH)

    def _effect(self, stage: str, rows: Sequence[Row], lacks: Callable[[Row], bool], text: str) -> None:
        check, trail = self.report.check(stage), self.trails[CREATED]
        for row in rows:
            check.checked += 1
            first = trail.first.get(row.message_id)
            if first is not None and first >= self.committed[stage] and not self._young(row):
                self.report.late[stage] += 1
            if self._young(row) or not self._reached(stage, row):
                check.waiting += lacks(row)
            elif lacks(row):
                if row.message_id in self.aside[stage]:
                    check.aside += 1
                else:
                    self._find(stage, Kind.MISSING, row, f"{stage} is past it, and {text}", Remedy.REPUBLISH)

    def _counts(self) -> None:
        aside = Counter(
            (row.conversation_id, row.created_ms // _MINUTE_MS * _MINUTE_MS)
            for row in self.facts.rows
            if row.message_id in self.aside["analytics"]
        )
        for tally in self.facts.tallies:
            less = tally.stored - tally.counted
            if 0 < less <= aside[tally.conversation_id, tally.minute_ms]:
                self.report.check("analytics").aside += less
            elif less:
                kind = Kind.MISSING if less > 0 else Kind.DOUBLED
                minute = wire_seconds(tally.minute_ms / 1000)[:16]
                text = f"counted {tally.counted} of {tally.stored} messages in {minute}"
                self._count(kind, tally.conversation_id, text, abs(less))
        for position in self.facts.positions:
            if position.cursor > position.head:
                text = f"counted up to seq {position.cursor}, beyond the head {position.head}"
                self._count(Kind.PHANTOM, position.conversation_id, text, 1)

    def _count(self, kind: Kind, conversation: str, text: str, count: int) -> None:
        self.report.add(
            Finding(
                check="analytics",
                kind=kind,
                conversation_id=conversation,
                text=text,
                remedy=Remedy.RECOUNT,
                count=count,
            )
        )


def settle(loose: Loose, report: Report, aside: Collection[str] = ()) -> None:
    """Report facts that belong to no span, and the stages that are late over all partitions.

    ``aside``: ids in the dead letters of the media stage.
    """
    for stage, count in report.late.items():
        text = f"{stage} has not come yet to {count} messages that are older than the grace"
        report.add(Finding(check=stage, kind=Kind.LATE, text=text))
    for conversation, seq, topic in loose.owed:
        text = f"the relay has not published it to {topic}"
        report.add(Finding(check="outbox", kind=Kind.LATE, conversation_id=conversation, seq=seq, text=text))
    for media_id in loose.uninspected:
        if media_id in aside:
            report.check("media").aside += 1
        else:
            report.add(Finding(check="media", kind=Kind.LATE, text=f"the upload {media_id} is not inspected"))
    for stray in loose.strays:
        report.add(_of_place(stray.stage, Kind.PHANTOM, stray.place, "it is about a message that is not there"))


def _of_place(check: str, kind: Kind, place: Place, text: str) -> Finding:
    return Finding(
        check=check,
        kind=kind,
        conversation_id=place.conversation_id,
        seq=place.seq,
        message_id=place.message_id,
        text=text,
    )
