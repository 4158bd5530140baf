"""``millrace env``: the environment variables of a stack, for a shell, a debugger or a process started by hand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from cli.target import Server
from stack.running import RunningStack
from stack.tokens import AUDIENCE, ISSUER

_TOKEN_S = 86_400


def for_clients(stack: RunningStack) -> dict[str, str]:
    """Return the public addresses, and two tokens valid for a day if the stack signs its own."""
    tokens = {}
    if stack.signer is not None:
        tokens = {user.upper(): stack.signer.token(user, ttl_s=_TOKEN_S) for user in ("alice", "bob")}
    return {"API": stack.http_url, "WS": stack.ws_url, **tokens}


def for_processes(stack: RunningStack) -> dict[str, str]:
    """Return the settings of an extra process beside the stack; it listens on free ports."""
    variables = {
        Server.POSTGRES.value: stack.pg_dsn,
        Server.KAFKA.value: stack.kafka,
        Server.REDIS.value: stack.redis_url,
        Server.HTTP.value: stack.http_url,
        Server.WEBSOCKET.value: stack.ws_url,
        "MILLRACE_DATA_DIR": str(stack.data),
        "MILLRACE_NODE": "by-hand",
    }
    if stack.signer is not None:
        signer = stack.signer
        variables |= {Server.SECRET.value: signer.secret, ISSUER: signer.issuer, AUDIENCE: signer.audience}
    return variables


def exported(variables: Mapping[str, str]) -> str:
    """Return lines that any POSIX shell can evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
