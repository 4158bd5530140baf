"""``millrace agents``: the stages and gateways as consumer groups, with their members and their lag."""

from __future__ import annotations

from typing import Any

import typer

from cli.command import AsJson, Columns, Data, find_target, print_rows, run
from cli.target import Server
from schemas.topics import Topic, groups, load

app = typer.Typer(help="Show the agents: the five stages and the gateways.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep the group while it has a single command: typer would let the command take its place."""


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
