"""Requests to gateways over Redis, for the commands about gateways and connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cli.command import explain, find_target, run
from cli.target import Server
from domain.errors import NotFound, Unavailable
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.redis.slot_client import SlotClient

T = TypeVar("T")


def run_on_redis(data: Path | None, work: Callable[[SlotClient], Awaitable[T]]) -> T:
    """Find the stack, run the work on its Redis and return the result. Raises OperatorError."""
    return run(_run(find_target(data, Server.REDIS).redis_url, work))


async def _run(redis_url: str, work: Callable[[SlotClient], Awaitable[T]]) -> T:
    from adapters.redis.slot_client import open_slot_client

    try:
        async with open_slot_client(redis_url) as client:
            return await work(client)
    except NotFound as exc:
        raise OperatorError(f"{exc}; see `millrace connections list`") from exc
    except Unavailable as exc:
        raise OperatorError(f"{explain(exc)}; only Redis knows who is connected, messages flow without it") from exc


async def call_gateway(client: SlotClient, node: str, request: Mapping[str, Any]) -> Any:
    """Send a request to a gateway; return its answer.

    Raises OperatorError when the gateway refuses or does not answer, Unavailable when Redis does not answer.
    """
    from adapters.redis.gateway_directory import NoAnswer, call

    try:
        answer = await call(client, node, request)
    except NoAnswer as exc:
        raise OperatorError(str(exc)) from exc
    if not answer["ok"]:
        raise OperatorError(f"{node}: {answer['detail']}")
    return answer
