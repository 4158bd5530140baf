"""What one topic says of what the store has: the rule for one partition, one record after another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ops.audit.findings import Finding, Kind, Report
from runtime.audit import Place, StoreFacts
from schemas.events import MediaProcessed, MessageCreated, MessageSent, NotificationSent, SearchIndexed

CREATED, SENT, INDEXED = MessageCreated.TOPIC, MessageSent.TOPIC, SearchIndexed.TOPIC
NOTIFIED, PROCESSED = NotificationSent.TOPIC, MediaProcessed.TOPIC
STAGE = {SENT: "status", NOTIFIED: "notification", PROCESSED: "media", INDEXED: "search"}
"""Who writes a completion topic."""
STAGES = ("status", "notification", "media", "search", "analytics")
TOPICS = (CREATED, *STAGE)
STORE = ("messages", "changes", "outbox", "receipts")
CHECKS = (*STORE, *TOPICS, *STAGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Something that must be told on a topic."""

    id: str
    message_id: str
    conversation_id: str
    seq: int
    digest: bytes | None = None
    in_order: bool = True
    """Whether its place among the others counts: not, when it was told again on purpose, or was set aside."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a record says."""

    id: str
    message_id: str
    conversation_id: str
    seq: int
    digest: bytes | None = None


@dataclass(slots=True)
class Trail:
    """One partition of a topic. What is not ``due`` is kept aside: it may be older, younger, or a phantom."""

    topic: str
    due: Mapping[str, Due]
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    """Offsets of the first and the last record of what is due."""
    unknown: dict[str, Seen] = field(default_factory=dict)
    repeats: int = 0
    unread: int = 0
    """Records that say nothing of ours; the stages set them aside."""
    findings: list[Finding] = field(default_factory=list)
    _furthest: dict[str, int] = field(default_factory=dict)

    def add(self, offset: int, seen: Seen | None, *, in_place: bool = True) -> None:
        """The next record; None when it cannot be read. ``in_place``: its key is its conversation, which belongs into
        this partition."""
        if seen is None:
            self.unread += 1
            return
        due = self.due.get(seen.id)
        if not in_place:
            self._find(Kind.OUT_OF_ORDER, seen, "its key or its partition is not that of its conversation")
        if due is None:
            self.unknown.setdefault(seen.id, seen)
            return
        if self._says_something_else(seen, due):
            self._find(Kind.DIFFERENT, seen, "the record does not say what the store says")
        self.last[seen.id] = offset
        if self.first.setdefault(seen.id, offset) != offset:
            self.repeats += 1
        elif due.in_order:
            self._place(due)

    def _says_something_else(self, seen: Seen, due: Due) -> bool:
        return (seen.conversation_id, seen.seq, seen.digest) != (due.conversation_id, due.seq, due.digest)

    def _place(self, due: Due) -> None:
        furthest = self._furthest.get(due.conversation_id, 0)
        if due.seq < furthest:
            self._find(Kind.OUT_OF_ORDER, due, f"comes after seq {furthest} of the same conversation")
        else:
            self._furthest[due.conversation_id] = due.seq

    def _find(self, kind: Kind, about: Seen | Due, text: str) -> None:
        self.findings.append(
            Finding(
                check=self.topic,
                kind=kind,
                conversation_id=about.conversation_id,
                seq=about.seq,
                message_id=about.message_id,
                text=text,
            )
        )

    def close(self, known: Mapping[str, tuple[str, int]], report: Report) -> None:
        """All records were read; ``known`` are the places of those of the unknown ones that the store has after all."""
        for seen in self.unknown.values():
            place = known.get(seen.id)
            if place is None:
                self._find(Kind.PHANTOM, seen, "the store has nothing of this id")
            elif place != (seen.conversation_id, seen.seq):
                self._find(Kind.DIFFERENT, seen, "the record does not say what the store says")
        check = report.check(self.topic)
        check.repeats += self.repeats
        check.unread += self.unread
        for finding in self.findings:
            report.add(finding)


def dues(facts: StoreFacts, aside: Mapping[str, Collection[str]]) -> dict[str, dict[str, Due]]:
    """What each topic must tell of these messages; ``aside`` are those in each stage's dead letters."""
    rows = {row.message_id: row for row in facts.rows}
    whole = [
        Due(
            id=row.message_id,
            message_id=row.message_id,
            conversation_id=row.conversation_id,
            seq=row.seq,
            digest=row.digest,
            in_order=row.message_id not in facts.republished,
        )
        for row in facts.rows
    ]
    told = {
        CREATED: whole,
        SENT: whole,
        INDEXED: [replace(due, digest=None) for due in whole if rows[due.message_id].text],
        NOTIFIED: _places(facts.notifications, facts.republished),
        PROCESSED: _places(facts.media, facts.republished),
    }
    for topic, stage in STAGE.items():
        if letters := aside.get(stage):
            told[topic] = [replace(d, in_order=d.in_order and d.message_id not in letters) for d in told[topic]]
    return {topic: {due.id: due for due in told[topic]} for topic in TOPICS}


def _places(places: Iterable[Place], republished: Collection[str]) -> list[Due]:
    return [
        Due(
            id=place.id,
            message_id=place.message_id,
            conversation_id=place.conversation_id,
            seq=place.seq,
            in_order=place.message_id not in republished,
        )
        for place in places
    ]
