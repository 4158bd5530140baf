"""``millrace connections``: list, show and close live connections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, print_result, print_rows
from cli.gateway_rpc import call_gateway, run_on_redis
from schemas.clock import wire_seconds

if TYPE_CHECKING:
    from adapters.redis.gateway_directory import Held
    from adapters.redis.slot_client import SlotClient

app = typer.Typer(help="List, show and close live connections.", no_args_is_help=True)

ConnectionId = Annotated[str, typer.Argument(metavar="ID", help="A connection id, from `millrace connections list`.")]


@app.command("list")
def list_connections(
    user: Annotated[str | None, typer.Option(help="Only connections of this user.")] = None,
    node: Annotated[str | None, typer.Option(help="Only connections on this gateway.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List all connections whose lease has not expired, oldest first."""
    from adapters.redis.gateway_directory import connections

    found = run_on_redis(data, lambda client: connections(client, user=user, node=node))
    columns: Columns = {
        "connection": "connectionId",
        "user": "userId",
        "node": "node",
        "device": "device",
        "since": "since",
        "lease ends": "leaseEnds",
    }
    print_rows([_row(connection) for connection in found], columns, as_json=as_json)


@app.command()
def show(connection_id: ConnectionId, data: Data = None) -> None:
    """Show a connection as JSON: its entry in the registry, and what its gateway reports now."""
    connection, answer = run_on_redis(data, lambda client: _call(client, connection_id, "connection.show"))
    print(json.dumps({**_row(connection), **answer["connection"]}, indent=2))


@app.command()
def close(connection_id: ConnectionId, data: Data = None, as_json: AsJson = False) -> None:
    """Close a connection with code 4410. Its client may reconnect: its token stays valid."""
    connection, answer = run_on_redis(data, lambda client: _call(client, connection_id, "connection.close"))
    code = answer["closeCode"]
    text = f"closed a connection of {connection.user_id} on {connection.node} with code {code}"
    print_result({**_row(connection), "closeCode": code}, text, as_json=as_json)


async def _call(client: SlotClient, connection_id: str, request: str) -> tuple[Held, Any]:
    from adapters.redis.gateway_directory import connection

    found = await connection(client, connection_id)
    return found, await call_gateway(client, found.node, {"type": request, "id": connection_id})


def _row(connection: Held) -> dict[str, Any]:
    return {
        "connectionId": connection.connection_id,
        "userId": connection.user_id,
        "node": connection.node,
        "device": connection.device,
        "since": wire_seconds(connection.since_ms / 1000),
        "leaseEnds": wire_seconds(connection.lease_ends_ms / 1000),
    }
