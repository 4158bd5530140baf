"""``millrace agents``: the stages and gateways as consumer groups, their lag, and a step over a record."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, find_target, print_result, print_rows, run
from cli.skip import find_record, require_reader, shown, skip_record
from cli.target import Server
from schemas.topics import Topic, groups, load
from stack.errors import OperatorError

app = typer.Typer(help="Show the agents: the five stages and the gateways; step over a record.", no_args_is_help=True)


@app.command("list")
def list_agents(data: Data = None, as_json: AsJson = False) -> None:
    """List each consumer group: its state, its members, what it reads and writes, and its lag by topic."""
    from adapters.kafka.admin import groups_lag

    target, topics = find_target(data, Server.KAFKA), load()
    reads = {name: tuple(t.name for t in topics if name in t.readers) for name in groups()}
    rows = [_row(state, topics) for state in run(groups_lag(target.kafka, reads))]
    columns: Columns = {
        "agent": "agent",
        "state": "state",
        "members": "members",
        "lag": "lag",
        "reads": lambda row: ", ".join(f"{t} ({lag})" if lag else t for t, lag in row["lagByTopic"].items()),
        "writes": lambda row: ", ".join(row["writes"]),
    }
    print_rows(rows, columns, as_json=as_json)


@app.command()
def skip(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="A stage, or gateway.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="A topic that the group reads.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", help="The partition of the record.", min=0)],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", help="The offset of the record.", min=0)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Let a group step over one record that it has not passed, whether it runs or not.

    A stage writes the record to its dead letters, cause skipped; the gateways just pass over it. Its processes learn of
    the step within seconds, and when they start.

    Example: millrace agents skip gateway message.sent 3 1042
    """
    require_reader(group, topic)
    target = find_target(data, Server.POSTGRES, Server.KAFKA)
    record = run(find_record(target, group, topic, partition, offset))
    facts = shown(record)
    if not yes:
        if not sys.stdin.isatty():
            raise OperatorError(f"{_sentence(group, facts)}: add --yes to do it")
        typer.confirm(f"{_sentence(group, facts)}. Go on?", abort=True, err=True)
    state = run(skip_record(target, group, record))
    outcome = {
        "passed": f"{group} has passed it",
        "noted": f"noted: {group} steps over it when it comes to it",
    }
    text = f"{_sentence(group, facts)}\n{outcome[state]}"
    print_result({"group": group, **facts, "state": state}, text, as_json=as_json)


def _sentence(group: str, facts: dict[str, Any]) -> str:
    place = f"{facts['topic']}/{facts['partition']}/{facts['offset']}"
    return f"{group} steps over {place}: key {facts['key']!r}, ce_id {facts['id']!r}, {facts['bytes']} bytes"


def _row(state: Any, topics: tuple[Topic, ...]) -> dict[str, Any]:
    return {
        "agent": state.group,
        "state": state.state,
        "members": state.members,
        "reads": list(state.lag),
        "writes": [t.name for t in topics if state.group in t.writers],
        "lag": sum(state.lag.values()),
        "lagByTopic": dict(state.lag),
    }
