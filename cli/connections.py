"""``millrace connections``: who is connected where, what a connection does, and ending it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.gateway_rpc import asked, at_redis
from schemas.clock import wire_seconds

if TYPE_CHECKING:
    from adapters.redis.gateway_directory import Held
    from adapters.redis.slot_client import Servers

app = typer.Typer(help="The live connections: list, show and close them.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Id = Annotated[str, typer.Argument(help="As `list` shows it, and as the client was told.")]


@app.command("list")
def list_connections(
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this gateway's.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """All connections whose lease lives, oldest first."""
    from adapters.redis.gateway_directory import connections

    found = asyncio.run(at_redis(data, lambda servers: connections(servers, user=user, node=node)))
    rows = [_row(one) for one in found]
    print(json.dumps(rows)) if as_json else _show(rows)


@app.command()
def show(connection: Id, data: Data = None) -> None:
    """One connection: what the registry has, and what its gateway says of it now."""
    held, said = asyncio.run(at_redis(data, lambda servers: _ask(servers, connection, "connection.show")))
    print(json.dumps({**_row(held), **said["connection"]}, indent=2))


@app.command()
def close(connection: Id, data: Data = None, as_json: AsJson = False) -> None:
    """End a connection with close code 4410. Its client may come back: a token is not ended by this."""
    held, said = asyncio.run(at_redis(data, lambda servers: _ask(servers, connection, "connection.close")))
    if as_json:
        print(json.dumps({**_row(held), "closeCode": said["closeCode"]}))
    else:
        print(f"closed a connection of {held.user_id} on {held.node} with code {said['closeCode']}")


async def _ask(servers: Servers, connection_id: str, what: str) -> tuple[Held, Any]:
    from adapters.redis.gateway_directory import connection

    held = await connection(servers, connection_id)
    return held, await asked(servers, held.node, {"type": what, "id": connection_id})


def _row(held: Held) -> dict[str, Any]:
    return {
        "connectionId": held.connection_id,
        "userId": held.user_id,
        "node": held.node,
        "device": held.device,
        "since": wire_seconds(held.since_ms / 1000),
        "leaseEnds": wire_seconds(held.lease_ends_ms / 1000),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("connection", "user", "node", "device", "since", "lease ends"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
