"""Comparison of one topic with the store: the rule for one partition, record by record."""

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
"""Completion topic → the stage that writes it."""
TOPICS = (CREATED, *STAGE)
STORE = ("messages", "changes", "outbox", "receipts")


def checks() -> tuple[str, ...]:
    """Return the names of all checks: of the store, of topics and of stages."""
    return (*STORE, *TOPICS, *stages())


@dataclass(frozen=True, slots=True)
class Due:
    """A record that must be on a topic."""

    id: str
    message_id: str
    conversation_id: str
    seq: int
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Content of a record."""

    id: str
    message_id: str
    conversation_id: str
    seq: int
    digest: bytes | None = None


@dataclass(slots=True)
class Trail:
    """Partition of a topic, compared with the ``due`` records. Others are kept as ``unknown`` until ``close``: they
    may be older, younger, or phantoms."""

    topic: str
    due: Mapping[str, Due]
    late: Collection[str] = frozenset()
    """Ids of messages whose records may stand behind later ones: they were published again on purpose."""
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    """Offsets of the first (``first``) and the last record of each due id."""
    unknown: dict[str, Seen] = field(default_factory=dict)
    repeats: int = 0
    unread: int = 0
    """Number of unreadable records; the stages set them aside, too."""
    findings: list[Finding] = field(default_factory=list)
    _furthest: dict[str, int] = field(default_factory=dict)

    def add(self, offset: int, seen: Seen | None, *, in_place: bool = True) -> None:
        """Compare the next record; ``seen`` is None when it is unreadable.

        ``in_place``: its key is its conversation, and this partition is the one of that key.
        """
        if seen is None:
            self.unread += 1
            return
        due = self.due.get(seen.id)
        if not in_place:
            self._find(Kind.OUT_OF_ORDER, seen, "its key or its partition is not that of its conversation")
        if due is None:
            self.unknown.setdefault(seen.id, seen)
            return
        if self._differs(seen, due):
            self._find(Kind.DIFFERENT, seen, "the record does not say what the store says")
        self.last[seen.id] = offset
        if self.first.setdefault(seen.id, offset) != offset:
            self.repeats += 1
        elif due.message_id not in self.late:
            self._place(due)

    def _differs(self, seen: Seen, due: Due) -> bool:
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
        """Judge the unknown records, after the last one was read, and add all findings to the report.

        ``known``: (conversation, seq) of those unknown ids that the store has after all.
        """
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
    """Return a trail for each topic, with the records that it must have about these messages.

    ``aside``: messages in the dead letters of each stage. ``first_ms``: time at which the log of a topic begins. The
    records of older messages may stand out of order: a stage may write what it was working on into a log that has come
    back empty, before it starts over. So may those of republished messages and of dead letters, all notifications
    (who is connected gets them later than others) and all files (their senders take turns).
    """
    whole = [Due(r.message_id, r.message_id, r.conversation_id, r.seq, r.digest) for r in facts.rows]
    texts = [Due(r.message_id, r.message_id, r.conversation_id, r.seq) for r in facts.rows if r.text]
    due = {
        CREATED: whole,
        SENT: whole,
        INDEXED: texts,
        NOTIFIED: [Due(p.id, p.message_id, p.conversation_id, p.seq) for p in facts.notifications],
        PROCESSED: [Due(p.id, p.message_id, p.conversation_id, p.seq) for p in facts.media],
    }
    return {
        topic: Trail(
            topic,
            {each.id: each for each in due[topic]},
            {row.message_id for row in facts.rows if row.created_ms < max(first_ms[topic], first_ms[CREATED])}
            | set(facts.republished)
            | ({each.message_id for each in due[topic]} if topic in (NOTIFIED, PROCESSED) else set())
            | set(aside[STAGE[topic]] if topic in STAGE else ()),
        )
        for topic in TOPICS
    }
