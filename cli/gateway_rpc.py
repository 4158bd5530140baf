"""Reaching the gateways over Redis: what the commands about them share."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stack.composition import GIVEN
from stack.errors import OperatorError
from stack.running import running_stack

if TYPE_CHECKING:
    from adapters.redis.slot_client import Servers

T = TypeVar("T")


async def at_redis(data: Path | None, work: Callable[[Servers], Awaitable[T]]) -> T:
    """Do this on the Redis that the environment names, or on that of the stack that runs. Raises OperatorError."""
    from adapters.redis.slot_client import open_servers
    from domain.errors import NotFound, Unavailable

    try:
        async with open_servers(_url(data)) as servers:
            return await work(servers)
    except NotFound as exc:
        raise OperatorError(f"{exc}; see `millrace connections list`") from exc
    except Unavailable as exc:
        raise OperatorError(f"{exc}; who is connected is known there only, messages flow all the same") from exc


def _url(data: Path | None) -> str:
    """An address holds a password, so it is no option: those are seen by everybody on the machine."""
    from adapters.redis.client import target
    from runtime.settings import Settings

    if data is not None or not os.environ.get(GIVEN["redis"]):
        return running_stack(data).redis_url
    url = Settings().redis.url.get_secret_value()
    try:
        target(url)
    except ValueError as exc:
        raise OperatorError(f"{GIVEN['redis']} is not of the form redis://host:6379/0") from exc
    return url


async def asked(servers: Servers, node: str, what: Mapping[str, Any]) -> Any:
    """What the node answers. Raises OperatorError when it refuses or does not answer, Unavailable."""
    from adapters.redis.gateway_directory import NoAnswer, ask

    try:
        said = await ask(servers, node, what)
    except NoAnswer as exc:
        raise OperatorError(str(exc)) from exc
    if not said["ok"]:
        raise OperatorError(f"{node}: {said['detail']}")
    return said
