"""``millrace topics``: list the topics, apply topics.yaml, and publish events again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, find_broker, find_target, print_result, print_rows, run
from cli.target import Server, Target
from schemas.ids import is_uuid
from schemas.topics import Topic, load
from stack.errors import OperatorError

app = typer.Typer(help="List the topics, and bring a broker to topics.yaml.", no_args_is_help=True)

Bootstrap = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Use this broker instead.")]
_DAY_MS = 86_400_000


@app.command("list")
def list_topics(data: Data = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """List the topics of topics.yaml, and tell whether the broker has each as declared."""
    from adapters.kafka.admin import describe

    there = run(describe(find_broker(data, bootstrap).kafka))
    columns: Columns = {
        "topic": "topic",
        "state": "state",
        "partitions": lambda row: f"{row['partitions']} x {row['replication']}",
        "written by": lambda row: ", ".join(row["writers"]),
        "read by": lambda row: ", ".join(row["readers"]),
        "keeps": lambda row: "-" if row["retentionMs"] is None else f"{row['retentionMs'] / _DAY_MS:.0f} d",
        "bodies": lambda row: "yes" if row["content"] else "no",
    }
    print_rows([_row(topic, there.get(topic.name)) for topic in load()], columns, as_json=as_json)


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


@app.command()
def apply(
    data: Data = None,
    bootstrap: Bootstrap = None,
    replication: Annotated[
        int | None, typer.Option(help="Replication factor instead of the declared one; 1 for a single broker.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create missing topics and bring settings to topics.yaml. Refuses to change a partition count."""
    from stack.setup import apply_topics

    target = find_broker(data, bootstrap)
    done = run(apply_topics(target.kafka, replication or default_replication(target)))
    text = "\n".join(done) if done else "nothing to do: the broker is as topics.yaml says"
    print_result({"done": done}, text, as_json=as_json)


def default_replication(target: Target) -> int | None:
    """Return 1 for a stack of this machine with a broker of its own and no other, None for the declared factor."""
    processes = target.running.processes if target.running else ()
    return 1 if any(p["name"] == "kafka" and p["kind"] == "server" for p in processes) else None


@app.command()
def republish(
    since: Annotated[str, typer.Option(help="Publish what was created within this time: 30m, 1h, 2d.")],
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Publish events of the outbox again, in order. Readers skip events that they have seen, by their ids."""
    from cli.durations import option_seconds
    from cli.republish import RETAINED_H, republish_events

    span_s = option_seconds("--since", since)
    if conversation is not None and not is_uuid(conversation):
        raise OperatorError(f"--conversation must be a UUID in lower case; {conversation} is not")
    count = run(republish_events(find_target(data, Server.POSTGRES).pg_dsn, span_s, conversation))
    text = f"{count} events published again; the outbox keeps published events for {RETAINED_H} hours"
    print_result({"republished": count}, text, as_json=as_json)
