"""What one topic says of what the store has: the rule for one partition, one record after another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from audit.findings import Finding, Kind, Report
from domain.audit import StoreFacts
from schemas.events import MediaProcessed, MessageCreated, MessageSent, NotificationSent, SearchIndexed
from schemas.topics import stages

CREATED, SENT, INDEXED = MessageCreated.TOPIC, MessageSent.TOPIC, SearchIndexed.TOPIC
NOTIFIED, PROCESSED = NotificationSent.TOPIC, MediaProcessed.TOPIC
STAGE = {SENT: "status", NOTIFIED: "notification", PROCESSED: "media", INDEXED: "search"}
"""Who writes a completion topic."""
TOPICS = (CREATED, *STAGE)
STORE = ("messages", "changes", "outbox", "receipts")


def checks() -> tuple[str, ...]:
    """Return the names of all checks: of the store, of topics and of stages."""
    return (*STORE, *TOPICS, *stages())


@dataclass(frozen=True, slots=True)
class Due:
    """Something that must be told on a topic."""

    id: str
    message_id: str
    conversation_id: str
    seq: int
    digest: bytes | None = None


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
    late: Collection[str] = frozenset()
    """Messages that may come after later ones: they were told again on purpose."""
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
        elif due.message_id not in self.late:
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


def trails(facts: StoreFacts, aside: Mapping[str, Collection[str]], first_ms: Mapping[str, float]) -> dict[str, Trail]:
    """A trail for each topic, of what it must tell of these messages.

    ``aside``: messages in each stage's dead letters. ``first_ms``: what is older was there before the topic's log
    begins, or before the log that the stages begin with: a stage may write what it was about to into a log that has
    come back empty, before it starts over. Both may come late, and so may what was republished.
    """
    whole = [Due(r.message_id, r.message_id, r.conversation_id, r.seq, r.digest) for r in facts.rows]
    texts = [Due(r.message_id, r.message_id, r.conversation_id, r.seq) for r in facts.rows if r.text]
    told = {
        CREATED: whole,
        SENT: whole,
        INDEXED: texts,
        NOTIFIED: [Due(p.id, p.message_id, p.conversation_id, p.seq) for p in facts.notifications],
        PROCESSED: [Due(p.id, p.message_id, p.conversation_id, p.seq) for p in facts.media],
    }
    return {
        topic: Trail(
            topic,
            {due.id: due for due in told[topic]},
            {row.message_id for row in facts.rows if row.created_ms < max(first_ms[topic], first_ms[CREATED])}
            | set(facts.republished)
            | set(aside[STAGE[topic]] if topic in STAGE else ()),
        )
        for topic in TOPICS
    }
