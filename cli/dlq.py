"""``millrace dlq``: list, show and replay the dead letters of a stage."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, find_target, print_result, print_rows, run
from cli.target import Server, Target
from schemas.topics import stages
from stack.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.postgres.parking import PostgresParking
    from streams.replay import Letter

app = typer.Typer(help="List, show and replay the dead letters of a stage.", no_args_is_help=True)

Stage = Annotated[str, typer.Argument(metavar="STAGE", help="A stage, as `millrace agents list` shows it.")]
Conversation = Annotated[str | None, typer.Option(help="Only this conversation.")]


@app.command("list")
def list_letters(stage: Stage, conversation: Conversation = None, data: Data = None, as_json: AsJson = False) -> None:
    """List dead letters with their origin, cause and state. Message bodies are not shown."""
    letters = [letter for letter in _letters(stage, data) if conversation in (None, letter.conversation_id)]
    rows = [_row(letter) for letter in letters]
    columns: Columns = {name: name for name in rows[0]} if rows else {}
    print_rows(rows, columns, as_json=as_json, empty="no dead letters")


@app.command()
def show(
    stage: Stage,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="Partition/offset, from `millrace dlq list`.")],
    data: Data = None,
    with_bytes: Annotated[bool, typer.Option("--bytes", help="Print only the bytes of the record.")] = False,
) -> None:
    """Show a dead letter with its headers as JSON; its bytes only on request, because they are a user's message."""
    found = next((one for one in _letters(stage, data) if one.place == letter), None)
    if found is None:
        raise OperatorError(f"{stage} has no dead letter {letter}: see `millrace dlq list {stage}`")
    if with_bytes:
        sys.stdout.buffer.write(found.value)
        return
    headers = {name: value.decode(errors="replace") for name, value in found.headers}
    print(json.dumps({**_row(found), "bytes": len(found.value), "headers": headers}, indent=2))


@app.command()
def replay(
    stage: Stage,
    conversation: Conversation = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay all open dead letters of the stage.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Publish the original records to their topic again, in order; parked records of the conversation follow."""
    if (conversation is None) != everything:
        raise OperatorError("choose what to replay: --conversation ID, or --all")
    _require_stage(stage)
    result = run(_replay(stage, conversation, find_target(data, Server.POSTGRES, Server.KAFKA)))
    print_result(result, f"{result['replayed']} dead letters replayed", as_json=as_json)
    if result["failing"]:
        raise OperatorError(
            f"{len(result['failing'])} conversations failed again and stay parked: see `millrace dlq list {stage}`"
        )


def _require_stage(stage: str) -> None:
    if stage not in stages():
        raise OperatorError(f"STAGE must be one of {', '.join(stages())}; {stage} is not")


def _letters(stage: str, data: Path | None) -> list[Letter]:
    _require_stage(stage)
    return run(_read(stage, find_target(data, Server.POSTGRES, Server.KAFKA)))


async def _read(stage: str, target: Target) -> list[Letter]:
    from streams.replay import read_letters

    async with _parking(target.pg_dsn, stage) as parking:
        return await read_letters(target.kafka, parking)


async def _replay(stage: str, conversation: str | None, target: Target) -> dict[str, Any]:
    from adapters.kafka.producer import open_log
    from streams.replay import Replayer, ReplayUnfinished

    async with _parking(target.pg_dsn, stage) as parking, open_log(target.kafka, client_id="millrace-dlq") as log:
        replayer = Replayer(stage, target.kafka, parking, log, conversation)
        try:
            await replayer.run()
        except ReplayUnfinished as exc:
            raise OperatorError(str(exc)) from exc
    return {"replayed": replayer.replayed, "failing": sorted(replayer.failing)}


@asynccontextmanager
async def _parking(dsn: str, stage: str) -> AsyncIterator[PostgresParking]:
    from adapters.postgres.parking import PostgresParking
    from adapters.postgres.pool import open_pool

    async with open_pool(dsn, size=1) as pool:
        yield PostgresParking(pool, stage)


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "letter": letter.place,
        "state": "replayed" if letter.replayed else "open",
        "conversationId": letter.conversation_id,
        "origin": letter.origin,
        "cause": letter.cause,
        "attempts": letter.attempts,
        "time": letter.time,
    }
