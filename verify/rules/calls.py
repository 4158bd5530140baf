"""Rules about the form of answers over HTTP, and about errors that nothing explains (I21)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verify.final_state import FinalState
from verify.history import Attempt, History
from verify.observations import Call
from verify.rules.explanations import CALLS, is_explained
from verify.rules.violation import Violation
from verify.workload import SendMode

ABANDONED = "upload abandoned"
"""A request whose client did not wait for the answer."""
BUSY_SHARE, BUSY_LEAST = 0.01, 5
"""Share of all calls, and least number, that may have no answer or 503 without a fault: a call waits at most a second
for a connection to the store, and a busy machine takes that long now and then."""
_BUSY = (None, 503)
_HANG_UP = (SendMode.IMPATIENT, SendMode.FORGETFUL)


def answers_are_whole(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I21: an answer that comes whole is of its promised type, an error is a problem of RFC 9457, and never a bug."""
    for what, answer in _answers(history):
        if answer.defect:
            yield Violation("I21", "wrong", f"{what}: {answer.defect}")
        elif answer.code == "internal" or answer.status == 500:
            yield Violation("I21", "wrong", f"{what} was answered {answer.status} {answer.code}".rstrip())


def errors_are_explained(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I21: a call is answered, and not with 5xx, unless a fault of what answers it was felt at that time.

    A busy machine refuses some calls, too: see ``BUSY_SHARE``. Beyond a bearable slowdown they tell nothing.
    """
    answers = list(_answers(history))
    unexplained = [
        (what, answer)
        for what, answer in answers
        if (answer.status is None or answer.status >= 500)
        and not answer.defect
        and not is_explained(history.faults, CALLS, answer.began, answer.ended)
    ]
    is_busy = not history.slowdown.is_bearable or len(unexplained) <= max(BUSY_LEAST, BUSY_SHARE * len(answers))
    for what, answer in unexplained:
        if is_busy and answer.status in _BUSY:
            continue
        outcome = "no answer" if answer.status is None else f"{answer.status} {answer.code}"
        took, at = answer.ended - answer.began, answer.began - history.began
        text = f"{what} at {at:.1f} s: {outcome} after {took:.1f} s, and no fault explains it"
        yield Violation("I21", "wrong", text)


def readers_are_not_refused(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I21: what a user may do is not refused; a budget that is used up is no refusal."""
    for call in history.calls:
        if call.status is not None and call.status < 500 and call.status != 429 and not call.expected:
            text = f"{call.what} of {call.user} was refused: {call.status} {call.code}".rstrip()
            yield Violation("I21", "wrong", text)


def _answers(history: History) -> Iterator[tuple[str, Attempt | Call]]:
    """Yield the answers of all clients that waited for one, each with what was asked."""
    for room in history.rooms:
        for sending in room.sendings:
            key = f"the message of key {sending.send.key}"
            hung_up = sending.attempts[:1] if sending.send.mode in _HANG_UP else []
            for attempt in (*sending.attempts, *sending.mismatched):
                if attempt not in hung_up or attempt.status is not None:
                    yield key, attempt
    for call in history.calls:
        if call.what != ABANDONED or call.status is not None:
            yield f"{call.what} of {call.user}", call
