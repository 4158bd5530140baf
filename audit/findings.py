"""What an audit says: a line for each check, findings with their ids, notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with it."""

    MISSING = "missing"
    DOUBLED = "doubled"
    OUT_OF_ORDER = "out of order"
    PHANTOM = "phantom"
    """It is about a message that the store does not have."""
    DIFFERENT = "different"
    """It does not say what the store says."""
    LATE = "late"
    """It is owed for longer than the grace, and nobody has lost it."""


class Remedy(StrEnum):
    """What ``--heal`` does about it."""

    NONE = "none"
    REPUBLISH = "republish"
    RECOUNT = "recount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be. ``text`` holds ids and numbers, never content."""

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
    """One line: how many were looked at, and what came of it. ``waiting`` ones are younger than the grace, or those
    who have to see to them have not come to them yet; ``aside`` ones are in the stage's dead letters."""

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
    """All checks of one audit."""

    checks: dict[str, Check] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    letters: Counter[str] = field(default_factory=Counter)
    """Dead letters of the window by stage."""
    late: Counter[str] = field(default_factory=Counter)
    """Messages older than the grace that a stage has not come to yet, by stage."""

    def check(self, name: str) -> Check:
        """The line of this name."""
        return self.checks.setdefault(name, Check(name))

    def add(self, finding: Finding) -> None:
        """Count it and keep it."""
        self.check(finding.check).found[finding.kind] += finding.count
        self.findings.append(finding)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def total(self) -> int:
        """How many things are not as they must be."""
        return sum(finding.count for finding in self.findings)
