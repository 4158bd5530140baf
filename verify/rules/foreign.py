"""Rules about foreign records: the audit names each of them that it can tell, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

from audit.findings import Finding
from audit.records import content_of
from audit.topic_checks import TOPICS
from schemas.codec import Malformed, decode
from verify.foreign_records import CLAIMS, ForeignRecord
from verify.rules.violation import Violation

_Place: TypeAlias = tuple[str, str | None, int | None, str | None]
"""Topic, conversation, seq, message."""


def audit_names_the_foreign(
    findings: Sequence[Finding],
    foreign: Sequence[ForeignRecord],
    retained: Sequence[ForeignRecord],
    judged: Collection[str],
) -> Iterator[Violation]:
    """Yield each finding that is about no foreign record, and each foreign claim in the log that no finding names.

    ``foreign`` may be in the log, ``retained`` of it surely is. ``judged``: conversations that the audit has looked at.
    """
    named = {_place_of(finding) for finding in findings}
    places = {_claimed(record) for record in foreign}
    for finding in findings:
        if _place_of(finding) not in places:
            text = f"{finding.check}: {finding.kind.value}, {finding.text} {finding.conversation_id} seq {finding.seq}"
            yield Violation("audit", "wrong", text)
    for record in retained:
        place = _claimed(record)
        if place is not None and record.kind in CLAIMS and place[1] in judged and place not in named:
            yield Violation("audit", "wrong", f"{place[0]}: a foreign record, {record.kind}, is not named: {place[1:]}")


def _place_of(finding: Finding) -> _Place:
    return finding.check, finding.conversation_id, finding.seq, finding.message_id


def _claimed(record: ForeignRecord) -> _Place | None:
    """Return the place that a record claims; None when it is unreadable, or on a topic that the audit does not read."""
    if record.topic not in TOPICS:
        return None
    try:
        content = content_of(decode(record.topic, record.key, record.value))
    except Malformed:
        return None
    return None if content is None else (record.topic, content.conversation_id, content.seq, content.message_id)
