"""Report of an audit: a line for each check, and findings with their ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Kind of a finding."""

    MISSING = "missing"
    DOUBLED = "doubled"
    OUT_OF_ORDER = "out of order"
    PHANTOM = "phantom"
    """A record or a fact about a message that the store does not have."""
    DIFFERENT = "different"
    """A record or a fact that differs from the store."""
    LATE = "late"
    """Overdue by more than the grace, but not lost."""


class Remedy(StrEnum):
    """Action of ``--heal`` for a finding."""

    NONE = "none"
    REPUBLISH = "republish"
    REFRESH = "refresh"
    RECOUNT = "recount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A deviation. ``text`` holds ids and numbers, never content; ``count`` is the number of messages."""

    check: str
    kind: Kind
    conversation_id: str | None = None
    seq: int | None = None
    message_id: str | None = None
    text: str
    remedy: Remedy = Remedy.NONE
    count: int = 1


@dataclass(slots=True)
class Check:
    """Counts of one check.

    ``waiting`` counts messages younger than the grace and those that their stage has not reached yet; ``aside``
    counts those in the dead letters of the stage.
    """

    name: str
    checked: int = 0
    waiting: int = 0
    aside: int = 0
    repeats: int = 0
    unread: int = 0
    before_log: int = 0
    found: Counter[Kind] = field(default_factory=Counter)


@dataclass(slots=True)
class Report:
    """Checks and findings of one audit."""

    checks: dict[str, Check] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    letters: Counter[str] = field(default_factory=Counter)
    """Dead letters of the window, by stage."""
    remarks: list[str] = field(default_factory=list)
    """Faults of the topics themselves."""
    late: Counter[str] = field(default_factory=Counter)
    """Messages older than the grace that a stage has not reached yet, by stage."""

    def check(self, name: str) -> Check:
        """Return the counts of the check of this name."""
        return self.checks.setdefault(name, Check(name))

    def add(self, finding: Finding) -> None:
        """Count and keep a finding."""
        self.check(finding.check).found[finding.kind] += finding.count
        self.findings.append(finding)

    @property
    def clean(self) -> bool:
        """Return True when there are no findings."""
        return not self.findings

    @property
    def total(self) -> int:
        """Return the sum of the findings' counts."""
        return sum(finding.count for finding in self.findings)
