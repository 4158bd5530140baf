"""``millrace topics``: list the topics, apply topics.yaml, and publish events again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, find_broker, find_target, print_result, print_rows, run
from cli.target import Server, Target
from schemas.ids import is_uuid
from schemas.topics import Topic, load
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.kafka.topics import Difference, TopicFound

app = typer.Typer(help="List the topics, and bring a broker to topics.yaml.", no_args_is_help=True)

Bootstrap = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Use this broker instead.")]
Replication = Annotated[
    int | None, typer.Option(help="Replication factor instead of the declared one; 1 for a single broker.", min=1)
]
_DAY_MS = 86_400_000


@app.command("list")
def list_topics(
    data: Data = None, bootstrap: Bootstrap = None, replication: Replication = None, as_json: AsJson = False
) -> None:
    """List the topics of topics.yaml as the broker has them, and tell whether each is as declared."""
    from adapters.kafka.topics import inspect

    target, topics = find_broker(data, bootstrap), load()
    found, copies = run(inspect(target.kafka, topics)), replication or default_replication(target)
    columns: Columns = {
        "topic": "topic",
        "state": "state",
        "partitions": lambda row: "-" if row["partitions"] is None else f"{row['partitions']} x {row['replication']}",
        "written by": lambda row: ", ".join(row["writers"]),
        "read by": lambda row: ", ".join(row["readers"]),
        "keeps": lambda row: "-" if row["retentionMs"] is None else f"{row['retentionMs'] / _DAY_MS:.0f} d",
        "bodies": lambda row: "yes" if row["content"] else "no",
    }
    print_rows([_row(topic, found.get(topic.name), copies) for topic in topics], columns, as_json=as_json)


def _row(topic: Topic, found: TopicFound | None, replication: int | None) -> dict[str, Any]:
    from adapters.kafka.topics import differences

    different = differences(topic, found, replication)
    retention = found.settings.get("retention.ms") if found else None
    return {
        "topic": topic.name,
        "state": "missing" if found is None else "differs" if different else "ok",
        "partitions": found and found.partitions,
        "replication": found and found.replication,
        "settings": dict(found.settings) if found else {},
        "differences": [_difference(each) for each in different],
        "key": topic.key,
        "schema": topic.schema,
        "writers": list(topic.writers),
        "readers": list(topic.readers),
        "cleanup": topic.cleanup,
        "retentionMs": int(retention) if retention is not None else None,
        "content": topic.content,
        "doc": topic.doc,
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "topic": each.topic,
        "setting": each.setting,
        "declared": each.declared,
        "actual": each.actual,
        "applied": "by apply" if each.can_be_applied else "by hand",
    }


@app.command()
def plan(
    data: Data = None, bootstrap: Bootstrap = None, replication: Replication = None, as_json: AsJson = False
) -> None:
    """Show what apply would change. Exit code 2 when the broker is not as topics.yaml says."""
    from adapters.kafka.topics import plan as planned

    target = find_broker(data, bootstrap)
    found = run(planned(target.kafka, load(), replication=replication or default_replication(target)))
    columns: Columns = {
        "topic": "topic",
        "setting": "setting",
        "broker": lambda row: "-" if row["actual"] is None else row["actual"],
        "topics.yaml": "declared",
        "changed": "applied",
    }
    nothing = "nothing to do: the broker is as topics.yaml says"
    print_rows([_difference(each) for each in found], columns, as_json=as_json, empty=nothing)
    if found:
        raise typer.Exit(2)


@app.command()
def apply(
    data: Data = None,
    bootstrap: Bootstrap = None,
    replication: Replication = None,
    as_json: AsJson = False,
) -> None:
    """Create missing topics and set what differs from topics.yaml; other settings stay. Refuses to change a partition
    count."""
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
    from cli.republish import republish_events
    from runtime.read_settings import read_settings

    span_s = option_seconds("--since", since)
    if conversation is not None and not is_uuid(conversation):
        raise OperatorError(f"--conversation must be a UUID in lower case; {conversation} is not")
    count = run(republish_events(find_target(data, Server.POSTGRES).pg_dsn, span_s, conversation))
    kept_h = read_settings().retention.published_events_h
    text = f"{count} events published again; the outbox keeps published events for {kept_h} hours"
    print_result({"republished": count}, text, as_json=as_json)
