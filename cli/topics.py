"""``millrace topics``: the topics as declared, and as the broker has them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from schemas.ids import is_uuid
from schemas.topics import Topic, load
from stack.errors import OperatorError
from stack.running import running_stack

app = typer.Typer(help="The topics: list them, bring a broker to topics.yaml.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")]
Bootstrap = Annotated[str | None, typer.Option(help="Another broker than that of the stack that runs here.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_topics(data: Data = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """What topics.yaml declares, and whether the broker has it."""
    from adapters.kafka.admin import TopicState, describe
    from domain.errors import Unavailable

    try:
        there: dict[str, TopicState] = asyncio.run(describe(_broker(data, bootstrap)))
    except Unavailable as exc:
        raise OperatorError(str(exc)) from exc
    rows = [_row(topic, there.get(topic.name)) for topic in load()]
    print(json.dumps(rows)) if as_json else _show(rows)


def _row(topic: Topic, state: Any) -> dict[str, Any]:
    found = "missing" if state is None else "ok" if state.partitions == topic.partitions else "differs"
    return {
        "topic": topic.name,
        "state": found,
        "partitions": topic.partitions,
        "replication": state.replication if state else topic.replication,
        "key": topic.key,
        "schema": topic.schema,
        "writers": list(topic.writers),
        "readers": list(topic.readers),
        "cleanup": topic.cleanup,
        "retentionMs": topic.retention_ms,
        "content": topic.content,
        "doc": topic.doc,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("topic", "state", "partitions", "written by", "read by", "keeps", "bodies"):
        table.add_column(column)
    for row in rows:
        days = "-" if row["retentionMs"] is None else f"{row['retentionMs'] / 86_400_000:.0f} d"
        table.add_row(
            row["topic"],
            row["state"],
            f"{row['partitions']} x {row['replication']}",
            ", ".join(row["writers"]),
            ", ".join(row["readers"]),
            days,
            "yes" if row["content"] else "no",
        )
    Console().print(table)


@app.command()
def apply(
    data: Data = None,
    bootstrap: Bootstrap = None,
    replication: Annotated[int | None, typer.Option(help="Instead of the declared one; 1 for a lone broker.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create what is missing and bring settings to topics.yaml. Refuses to change a partition count."""
    from stack.setup import apply_topics

    broker = _broker(data, bootstrap)
    if replication is None and bootstrap is None:
        replication = 1 if _alone(data) else None
    done = asyncio.run(apply_topics(broker, replication))
    if as_json:
        print(json.dumps({"done": done}))
        return
    print("\n".join(done) if done else "nothing to do: the broker is as topics.yaml says")


@app.command()
def republish(
    since: Annotated[str, typer.Option(help="How far back: 30m, 1h, 2d.")],
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Publish the relay's events again, from the outbox, in order. Readers drop by id what they know."""
    from cli.durations import seconds
    from cli.republish import RETAINED_H, run_republish

    try:
        span = seconds(since)
    except ValueError as exc:
        raise OperatorError(str(exc)) from exc
    if conversation is not None and not is_uuid(conversation):
        raise OperatorError(f"{conversation} is no conversation id")
    count = asyncio.run(run_republish(running_stack(data).pg_dsn, span, conversation))
    if as_json:
        print(json.dumps({"republished": count}))
        return
    print(f"{count} events published again; what was published over {RETAINED_H} hours ago is not retained")


def _broker(data: Path | None, bootstrap: str | None) -> str:
    return bootstrap or running_stack(data).kafka


def _alone(data: Path | None) -> bool:
    return any(p["name"] == "kafka" and p["kind"] == "server" for p in running_stack(data).processes)
