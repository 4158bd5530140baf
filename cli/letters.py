"""Dead letters and the verdict of a replay, as commands print them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.command import Columns, print_rows
from stack.errors import OperatorError

if TYPE_CHECKING:
    from streams.letters import Choice, Letter
    from streams.replay import Replayer


def bounds(choice: Choice) -> dict[str, str]:
    """Return the bounds of a choice, for the record of the action."""
    given = {
        "conversationId": choice.conversation_id,
        "cause": choice.cause,
        "since": choice.since,
        "until": choice.until,
    }
    return {name: value for name, value in given.items() if value is not None}


def counts(operator: Replayer) -> dict[str, int]:
    """Return the numbers of a verdict."""
    outcome = operator.verdict
    return {
        "replayed": len(outcome.replayed),
        "handled": outcome.handled,
        "failed": len(outcome.failed),
        "waiting": len(outcome.waiting),
    }


def verdict(operator: Replayer) -> dict[str, Any]:
    """Return the verdict of a replay for programs: numbers, letters that failed again, conversations still parked."""
    failed = [row(letter) for letter in operator.verdict.failed.values()]
    return {**counts(operator), "letters": failed, "failing": sorted(operator.failing)}


def verdict_text(operator: Replayer) -> str:
    """Return the verdict of a replay in one sentence."""
    outcome = operator.verdict
    parts = [f"{outcome.handled} handled"]
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed again: {_causes(outcome.causes)}")
    if outcome.waiting:
        parts.append(f"{len(outcome.waiting)} wait behind them")
    return ", ".join(parts)


def _causes(causes: Counter[str]) -> str:
    if len(causes) == 1:
        return next(iter(causes))
    return "; ".join(f"{count} {cause}" for cause, count in causes.most_common())


def fail_if_any_failed(stage: str, operator: Replayer) -> None:
    """Raise OperatorError when a record failed again."""
    if operator.verdict.failed:
        raise OperatorError(
            f"{len(operator.verdict.failed)} records failed again: see `millrace dlq list {stage} --open`,"
            " and `millrace dlq show` for the stack"
        )


def print_letters(letters: Sequence[Letter], *, as_json: bool) -> None:
    """Print letters without their contents."""
    rows = [row(letter) for letter in letters]
    columns: Columns = {name: name for name in rows[0]} if rows else {}
    print_rows(rows, columns, as_json=as_json, empty="no dead letters")


def row(letter: Letter) -> dict[str, Any]:
    """Return a letter without its contents."""
    return {
        "letter": letter.place,
        "state": letter.state,
        "conversationId": letter.conversation_id,
        "origin": letter.origin,
        "cause": letter.cause,
        "attempts": letter.attempts,
        "time": letter.time,
    }
