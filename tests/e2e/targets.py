"""The variables that name a stack."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cli.target import Server
from stack.logins import OPERATOR
from stack.running import RunningStack

from .conftest import ROOT


def variables(stack: RunningStack, *, is_owner: bool = False) -> dict[str, str]:
    """What an operator has: a login for commands, or the owner's."""
    return {
        Server.POSTGRES.value: stack.pg_dsn if is_owner else stack.pg_dsn_of(OPERATOR),
        Server.KAFKA.value: stack.kafka.bootstrap,
        Server.REDIS.value: stack.redis_url,
        Server.HTTP.value: stack.http_url,
        Server.WEBSOCKET.value: stack.ws_url,
        Server.SECRET.value: stack.jwt_secret,
    }


def environment(named: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return {**clean, "PYTHONPATH": str(ROOT), **named}
