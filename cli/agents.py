"""``millrace agents``: the stages as consumer groups: members, and how far behind they are."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from schemas.topics import Topic, groups, load
from stack.errors import OperatorError
from stack.running import running_stack

app = typer.Typer(help="The agents: the five stages and the gateways.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """A group of commands even while it has one."""


@app.command("list")
def list_agents(
    data: Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Each consumer group: what it reads and writes, its state, its members, its lag by topic."""
    from adapters.kafka.admin import groups_lag
    from domain.errors import Unavailable

    stack, topics = running_stack(data), load()
    reads = {name: tuple(t.name for t in topics if name in t.readers) for name in groups()}
    try:
        states = asyncio.run(groups_lag(stack.kafka, reads))
    except Unavailable as exc:
        raise OperatorError(str(exc)) from exc
    rows = [_row(state, topics) for state in states]
    print(json.dumps(rows)) if as_json else _show(rows)


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


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("agent", "state", "members", "lag", "reads", "writes"):
        table.add_column(column, overflow="fold")
    for row in rows:
        reads = ", ".join(f"{t} ({lag})" if lag else t for t, lag in row["lagByTopic"].items())
        table.add_row(row["agent"], row["state"], str(row["members"]), str(row["lag"]), reads, ", ".join(row["writes"]))
    Console().print(table)
