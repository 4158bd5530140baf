"""``millrace gateways``: the gateways, and sending away the connections of one that is to end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.durations import seconds
from cli.gateway_rpc import asked, at_redis
from schemas.clock import wire_seconds
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.redis.gateway_directory import Gateway
    from adapters.redis.slot_client import Servers

app = typer.Typer(help="The gateways: list them, drain one.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

_LOOK_S = 0.2
_END_S = 15.0
_BACK_S = 60.0


@app.command("list")
def list_gateways(data: Data = None, as_json: AsJson = False) -> None:
    """All gateways whose lease lives."""
    from adapters.redis.gateway_directory import gateways

    rows = [_row(one) for one in asyncio.run(at_redis(data, gateways))]
    print(json.dumps(rows)) if as_json else _show(rows)


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="As `list` shows it.")],
    over: Annotated[str, typer.Option(help="Over how long: 10s, 1m.")] = "60s",
    wait: Annotated[bool, typer.Option(help="Return only when it has ended.")] = True,
    until_back: Annotated[bool, typer.Option("--until-back", help="Return only when it was started again.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send the connections of a gateway to the others, evenly over some time; then it ends.

    What supervises it starts it again, as `millrace up` does.
    """
    try:
        over_s = seconds(over)
    except ValueError as exc:
        raise OperatorError(str(exc)) from exc
    said = asyncio.run(at_redis(data, lambda servers: _drain(servers, node, over_s, wait, until_back)))
    if as_json:
        print(json.dumps(said))
    else:
        print(f"{node} {said['state']}; it had {said['connections']} connections")


async def _drain(servers: Servers, node: str, over_s: int, wait: bool, until_back: bool) -> dict[str, Any]:
    before = await _find(servers, node)
    if before is None:
        raise OperatorError(f"no gateway {node} is up; see `millrace gateways list`")
    said = await asked(servers, node, {"type": "node.drain", "overS": over_s})
    state = "drains"
    if wait or until_back:
        await _until(servers, node, lambda now: now is None or now.life != before.life, over_s + _END_S, "ended")
        state = "has ended"
    if until_back:
        await _until(servers, node, lambda now: now is not None and now.life != before.life, _BACK_S, "come back")
        state = "has ended and is back"
    return {"node": node, "state": state, "overS": over_s, "connections": said["connections"]}


async def _until(servers: Servers, node: str, is_so: Any, within_s: float, what: str) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not is_so(await _find(servers, node)):
        if asyncio.get_running_loop().time() > deadline:
            raise OperatorError(f"{node} has not {what} in {within_s:.0f} s; its log says why")
        await asyncio.sleep(_LOOK_S)


async def _find(servers: Servers, node: str) -> Gateway | None:
    from adapters.redis.gateway_directory import gateways

    return next((one for one in await gateways(servers) if one.node == node), None)


def _row(gateway: Gateway) -> dict[str, Any]:
    return {
        "node": gateway.node,
        "state": "draining" if gateway.draining else "serving",
        "connections": gateway.connections,
        "since": wire_seconds(gateway.since_ms / 1000),
        "leaseEnds": wire_seconds(gateway.lease_ends_ms / 1000),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("gateway", "state", "connections", "since", "lease ends"):
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
