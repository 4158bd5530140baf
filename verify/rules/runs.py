"""Rules about a run as a whole: nothing falls back, no secret leaks, all comes to rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verify.final_state import FinalState
from verify.foreign_records import ForeignRecord
from verify.history import History
from verify.rules.foreign import audit_names_the_foreign
from verify.rules.violation import Violation

WIPES = frozenset({"wipe-kafka", "lost-folder-kafka"})
"""Faults by which a broker loses what it holds."""


def nothing_falls(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I8 and I13: no sample of the store shows a lower status or watermark than an earlier one."""
    yield from (Violation("I8/I13", "wrong", text) for text in history.regressions)


def audit_agrees(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I6 and I7: the audit at the end names the foreign records of the run, and nothing else."""
    judged = {state.conversation_id for state in states}
    yield from audit_names_the_foreign(history.audit, history.foreign, _retained(history), judged)


def nothing_leaks(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I16: no log holds a secret or a content."""
    yield from (Violation("I16", "wrong", text) for text in history.leaks)


def all_comes_to_rest(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I14: everybody has everything within a bounded time after the last message and the last fault."""
    if history.quiet_s is None:
        yield from (Violation("I14", "wrong", f"still waiting at the end: {text}") for text in history.waiting)


def _retained(history: History) -> Sequence[ForeignRecord]:
    """Return the foreign records that the log still has: none after a broker has lost its storage."""
    return [] if any(fault.name in WIPES for fault in history.faults) else history.written
