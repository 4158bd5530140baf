"""``millrace dlq``: what the stages have set aside, and bringing it back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stack.errors import OperatorError
from stack.running import running_stack
from stack.topology import STAGES

if TYPE_CHECKING:
    from adapters.postgres.parking import PostgresParking
    from streams.replay import Letter

app = typer.Typer(help="Dead letters: list, show and replay what a stage has set aside.", no_args_is_help=True)

Stage = Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")]
Data = Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")]
Conversation = Annotated[str | None, typer.Option(help="Only this conversation.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_letters(stage: Stage, conversation: Conversation = None, data: Data = None, as_json: AsJson = False) -> None:
    """The stage's dead letters: where they come from, why they are here, whether they were replayed. No bodies."""
    letters = [one for one in _letters(stage, data) if conversation in (None, one.conversation_id)]
    rows = [_row(letter) for letter in letters]
    print(json.dumps(rows)) if as_json else _show(rows)


@app.command()
def show(
    stage: Stage,
    letter: Annotated[str, typer.Argument(help="Its place as `list` shows it: partition/offset.")],
    data: Data = None,
    with_bytes: Annotated[
        bool, typer.Option("--bytes", help="The record's bytes, as they are, and nothing else.")
    ] = False,
) -> None:
    """One dead letter with its headers; its bytes only when asked for, for they are somebody's message."""
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
    everything: Annotated[bool, typer.Option("--all", help="All open dead letters of the stage.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Publish the original records to their topic again, in order; parked conversations go on behind them."""
    if (conversation is None) != everything:
        raise OperatorError("say which: --conversation ID, or --all")
    from domain.errors import Unavailable

    try:
        said = asyncio.run(_replay(_known(stage), conversation, data))
    except Unavailable as exc:
        raise OperatorError(str(exc)) from exc
    if as_json:
        print(json.dumps(said))
    else:
        print(f"{said['replayed']} dead letters replayed")
    if said["failing"]:
        raise OperatorError(
            f"{len(said['failing'])} conversations failed again and stay parked: see `dlq list {stage}`"
        )


def _known(stage: str) -> str:
    if stage not in STAGES:
        raise OperatorError(f"{stage} is no stage: it is one of {', '.join(STAGES)}")
    return stage


def _letters(stage: str, data: Path | None) -> list[Letter]:
    from domain.errors import Unavailable
    from streams.replay import read_letters

    stack = running_stack(data)

    async def read() -> list[Letter]:
        async with _parking(stack.pg_dsn, stage) as parking:
            return await read_letters(stack.kafka, parking)

    try:
        _known(stage)
        return asyncio.run(read())
    except Unavailable as exc:
        raise OperatorError(str(exc)) from exc


async def _replay(stage: str, conversation: str | None, data: Path | None) -> dict[str, Any]:
    from adapters.kafka.producer import open_log
    from streams.replay import Replayer, ReplayUnfinished

    stack = running_stack(data)
    async with _parking(stack.pg_dsn, stage) as parking, open_log(stack.kafka, client_id="millrace-dlq") as log:
        replayer = Replayer(stage, stack.kafka, parking, log, conversation)
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


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("no dead letters")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
