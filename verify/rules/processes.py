"""Rules about what processes do on their own: exits, dead letters and errors that no fault made (I24)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stack.topology import role
from verify.final_state import FinalState
from verify.history import History
from verify.observations import ProcessEnd
from verify.rules.explanations import ENDS_S, SERVERS, is_explained
from verify.rules.violation import Violation

_CLOCKS_S = 1.0
"""Tolerance: the supervisor sees an end before the nemesis has noted its fault, and writes whole milliseconds."""


def ends_are_explained(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I24: a process ends only by a fault of its own role, or, with a code, while a server that it needs is broken.

    The start of the stack is not judged: servers come up beside what waits for them.
    """
    for end in (end for end in history.processes.ends if end.at > history.began):
        own = role(end.name)
        needs = {own} | (SERVERS if own not in SERVERS and end.code > 0 else frozenset())
        if not is_explained(history.faults, needs, end.at - _CLOCKS_S, end.at + _CLOCKS_S, ENDS_S):
            yield Violation("I24", "wrong", f"{end.name} {_how(end)}, and no fault explains it")


def letters_are_planned(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I24: only foreign records are set aside."""
    foreign = {(record.topic, record.key or b"", record.value or b"") for record in history.foreign}
    causes = Counter(
        (letter.stage, letter.topic, letter.cause)
        for letter in history.processes.letters
        if (letter.topic, letter.key, letter.value) not in foreign
    )
    for (stage, topic, cause), count in causes.items():
        text = f"{stage} set {count} records of {topic} aside that no fault wrote: {cause}"
        yield Violation("I24", "wrong", text, count)


def errors_are_handled(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I24: no log tells of an error that nobody handled."""
    for found in history.processes.tracebacks:
        yield Violation("I24", "wrong", f"{found.log} at {found.at or 'an unknown time'}: {found.mark}")


def _how(end: ProcessEnd) -> str:
    return f"was ended by signal {-end.code}" if end.code < 0 else f"ended with code {end.code}"
