"""``millrace dlq``: list, show, replay and discard the dead letters of a stage."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.actions import recorded
from cli.command import AsJson, Data, find_target, print_result, run
from cli.durations import option_moment
from cli.letters import bounds, counts, fail_if_any_failed, print_letters, row, verdict, verdict_text
from cli.target import Server, Target
from schemas.topics import stages
from stack.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from streams.letters import Choice, Letter
    from streams.replay import Replayer

app = typer.Typer(help="List, show, replay and discard the dead letters of a stage.", no_args_is_help=True)

Stage = Annotated[str, typer.Argument(metavar="STAGE", help="A stage, as `millrace agents list` shows it.")]
Conversation = Annotated[str | None, typer.Option(help="Only this conversation.", metavar="ID")]
Cause = Annotated[str | None, typer.Option(help="Only this cause, as `millrace dlq list` shows it.")]
Since = Annotated[
    str | None, typer.Option(help="Only letters of this time or later: 30m or 2d ago, or 2026-01-31T12:00:00Z.")
]
Until = Annotated[str | None, typer.Option(help="Only letters from before this time, written like --since.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print the letters that are meant.")]
RATE = 500


@app.command("list")
def list_letters(
    stage: Stage,
    conversation: Conversation = None,
    cause: Cause = None,
    since: Since = None,
    until: Until = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only letters that are open.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters with their origin, cause and state. Message bodies are not shown.

    Example: millrace dlq list search --open --cause DataError
    """
    choice = _choice(conversation, cause, since, until)
    letters = [letter for letter in _letters(stage, data) if choice.includes(letter)]
    print_letters([letter for letter in letters if letter.closed is None or not only_open], as_json=as_json)


@app.command()
def show(
    stage: Stage,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="Partition/offset, from `millrace dlq list`.")],
    data: Data = None,
    with_bytes: Annotated[bool, typer.Option("--bytes", help="Print only the bytes of the record.")] = False,
) -> None:
    """Show a dead letter with its cause, stack and headers as JSON; its bytes only on request, for they are a message.

    Example: millrace dlq show search 3/17
    """
    found = next((one for one in _letters(stage, data) if one.place == letter), None)
    if found is None:
        raise OperatorError(f"{stage} has no dead letter {letter}: see `millrace dlq list {stage}`")
    if with_bytes:
        sys.stdout.buffer.write(found.value)
        return
    headers = {name: value.decode(errors="replace") for name, value in found.headers}
    more = {
        "detail": headers.pop("dlq-detail", None),
        "stack": headers.pop("dlq-stack", "").splitlines(),
        "reason": found.closed.reason if found.closed else None,
        "bytes": len(found.value),
    }
    print(json.dumps({**row(found), **more, "headers": headers}, indent=2))


@app.command()
def replay(
    stage: Stage,
    conversation: Conversation = None,
    cause: Cause = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay all open dead letters of the stage.")] = False,
    rate: Annotated[int, typer.Option(help="Most records a second.", min=1)] = RATE,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Let the stage alone handle its dead letters again, in order; wait for the verdict and print it.

    Exit code 1 when a record failed again. Of a parked conversation all letters are replayed, for the order's sake.

    Example: millrace dlq replay search --cause DataError --since 2h --dry-run
    """
    choice = _choice(conversation, cause, since, until)
    if (choice == _choice()) != everything:
        raise OperatorError("choose what to replay: --conversation ID, --cause, --since, --until; or --all")
    _require_stage(stage)
    target = find_target(data, Server.POSTGRES, Server.KAFKA)
    if dry_run:
        print_letters(run(_to_replay(target, stage, choice)), as_json=as_json)
        return
    replayer = run(_replay(target, stage, choice, rate))
    print_result(verdict(replayer), verdict_text(replayer), as_json=as_json)
    fail_if_any_failed(stage, replayer)


@app.command()
def discard(
    stage: Stage,
    reason: Annotated[str, typer.Option(help="Why the records are given up; kept with the letters.", metavar="TEXT")],
    conversation: Conversation = None,
    cause: Cause = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Close failed dead letters for good; parked conversations go on with what waits behind them, in order.

    Exit code 1 when one of the records that waited fails. The bytes of a discarded letter stay in its topic for 7 days.

    Example: millrace dlq discard analytics --reason "forged records" --conversation ID
    """
    choice = _choice(conversation, cause, since, until)
    _require_stage(stage)
    if not reason.strip():
        raise OperatorError("--reason must not be empty")
    target = find_target(data, Server.POSTGRES, Server.KAFKA)
    if dry_run:
        print_letters(run(_to_discard(target, stage, choice)), as_json=as_json)
        return
    count, replayer = run(_discard(target, stage, choice, reason.strip()))
    text = f"{count} discarded"
    if replayer.verdict.replayed:
        text += f"; behind them {verdict_text(replayer)}"
    print_result({"discarded": count, **verdict(replayer)}, text, as_json=as_json)
    fail_if_any_failed(stage, replayer)


def _choice(
    conversation: str | None = None, cause: str | None = None, since: str | None = None, until: str | None = None
) -> Choice:
    from streams.letters import Choice

    return Choice(conversation, cause, option_moment("--since", since), option_moment("--until", until))


def _require_stage(stage: str) -> None:
    if stage not in stages():
        raise OperatorError(f"STAGE must be one of {', '.join(stages())}; {stage} is not")


def _letters(stage: str, data: Path | None) -> list[Letter]:
    _require_stage(stage)
    return run(_read(find_target(data, Server.POSTGRES, Server.KAFKA), stage))


async def _read(target: Target, stage: str) -> list[Letter]:
    async with _operator(target, stage) as operator:
        letters, _ = await operator.read()
        return letters


async def _to_replay(target: Target, stage: str, choice: Choice) -> list[Letter]:
    from streams.replay import chosen

    async with _operator(target, stage) as operator:
        parts = chosen(*await operator.read(), choice)
    return [letter for part in parts for letter in sorted(part.letters, key=lambda letter: letter.order)]


async def _to_discard(target: Target, stage: str, choice: Choice) -> list[Letter]:
    from streams.replay import discardable

    async with _operator(target, stage) as operator:
        letters, _ = await operator.read()
    return discardable(letters, choice)


async def _replay(target: Target, stage: str, choice: Choice, rate: int) -> Replayer:
    scope = {"stage": stage, **bounds(choice)}
    async with recorded(target.pg_dsn, "dlq replay", scope) as result, _operator(target, stage, rate) as operator:
        try:
            with _explained():
                await operator.run(choice)
        finally:
            result.update(counts(operator))
    return operator


async def _discard(target: Target, stage: str, choice: Choice, reason: str) -> tuple[int, Replayer]:
    from streams.replay import discard

    scope = {"stage": stage, "reason": reason, **bounds(choice)}
    async with recorded(target.pg_dsn, "dlq discard", scope) as result, _operator(target, stage) as operator:
        with _explained():
            closed = await discard(operator, choice, reason)
        result.update(discarded=len(closed), **counts(operator))
    return len(closed), operator


@asynccontextmanager
async def _operator(target: Target, stage: str, rate: int = RATE) -> AsyncIterator[Replayer]:
    from adapters.kafka.dead_letters import KafkaLetters
    from adapters.kafka.producer import open_log
    from adapters.postgres.parking import PostgresParking
    from adapters.postgres.pool import open_pool
    from streams.replay import Replayer

    async with open_pool(target.pg_dsn, size=1) as pool, open_log(target.kafka, client_id="millrace-dlq") as log:
        yield Replayer(stage, KafkaLetters(target.kafka, stage), PostgresParking(pool, stage), log, rate)


@contextmanager
def _explained() -> Iterator[None]:
    """Raise OperatorError for a replay that is not finished."""
    from streams.replay import ReplayUnfinished

    try:
        yield
    except ReplayUnfinished as exc:
        raise OperatorError(str(exc)) from exc
