"""``millrace gateways``: list the gateways, and drain one that is to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import AsJson, Columns, Data, print_result, print_rows
from cli.durations import option_seconds
from cli.gateway_rpc import call_gateway, run_on_redis
from schemas.clock import wire_seconds
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.redis.gateway_directory import Gateway
    from adapters.redis.slot_client import SlotClient

app = typer.Typer(help="List the gateways, and drain one.", no_args_is_help=True)

_POLL_S = 0.2
_END_S = 15.0
_BACK_S = 60.0


@app.command("list")
def list_gateways(data: Data = None, as_json: AsJson = False) -> None:
    """List all gateways whose lease has not expired."""
    from adapters.redis.gateway_directory import gateways

    columns: Columns = {
        "gateway": "node",
        "state": "state",
        "connections": "connections",
        "since": "since",
        "lease ends": "leaseEnds",
    }
    print_rows([_row(gateway) for gateway in run_on_redis(data, gateways)], columns, as_json=as_json)


@app.command()
def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A gateway, from `millrace gateways list`.")],
    over: Annotated[str, typer.Option(help="Spread the closing over this time: 10s, 1m.")] = "60s",
    wait: Annotated[bool, typer.Option(help="Wait until the gateway has ended.")] = True,
    until_back: Annotated[bool, typer.Option("--until-back", help="Wait until the gateway has restarted.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Move the connections of a gateway to the others, spread evenly over time; then the gateway ends.

    Its supervisor restarts it, as `millrace up` does.
    """
    over_s = option_seconds("--over", over)
    result = run_on_redis(data, lambda client: _drain(client, node, over_s, wait, until_back))
    text = f"{node} {result['state']}; it had {result['connections']} connections"
    print_result(result, text, as_json=as_json)


async def _drain(client: SlotClient, node: str, over_s: int, wait: bool, until_back: bool) -> dict[str, Any]:
    before = await _find(client, node)
    if before is None:
        raise OperatorError(f"gateway {node} is not running; see `millrace gateways list`")
    answer = await call_gateway(client, node, {"type": "node.drain", "overS": over_s})
    state = "drains"
    if wait or until_back:
        await _until(client, node, lambda now: now is None or now.life != before.life, over_s + _END_S, "ended")
        state = "has ended"
    if until_back:
        await _until(client, node, lambda now: now is not None and now.life != before.life, _BACK_S, "restarted")
        state = "has ended and is back"
    return {"node": node, "state": state, "overS": over_s, "connections": answer["connections"]}


async def _until(
    client: SlotClient, node: str, is_so: Callable[[Gateway | None], bool], within_s: float, change: str
) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not is_so(await _find(client, node)):
        if asyncio.get_running_loop().time() > deadline:
            raise OperatorError(f"{node} has not {change} within {within_s:.0f} s; see its log")
        await asyncio.sleep(_POLL_S)


async def _find(client: SlotClient, node: str) -> Gateway | None:
    from adapters.redis.gateway_directory import gateways

    return next((gateway for gateway in await gateways(client) if gateway.node == node), None)


def _row(gateway: Gateway) -> dict[str, Any]:
    return {
        "node": gateway.node,
        "state": "draining" if gateway.draining else "serving",
        "connections": gateway.connections,
        "since": wire_seconds(gateway.since_ms / 1000),
        "leaseEnds": wire_seconds(gateway.lease_ends_ms / 1000),
    }
