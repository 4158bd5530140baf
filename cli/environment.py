"""``millrace env``: the variables of a stack that runs, for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from stack.running import RunningStack
from stack.tokens import are_ours, token_for

_TOKEN_S = 86_400


def for_clients(stack: RunningStack) -> dict[str, str]:
    """Return where clients go, and two tokens valid for a day if they are ours to give."""
    tokens = {user.upper(): token_for(stack, user, ttl_s=_TOKEN_S) for user in ("alice", "bob")} if are_ours() else {}
    return {"API": stack.http_url, "WS": stack.ws_url, **tokens}


def for_processes(stack: RunningStack) -> dict[str, str]:
    """Return what a process of ours that is started by hand needs; its own ports are free ones."""
    return {
        "MILLRACE_PG__DSN": stack.pg_dsn,
        "MILLRACE_KAFKA__BOOTSTRAP": stack.kafka,
        "MILLRACE_REDIS__URL": stack.redis_url,
        **({"MILLRACE_AUTH__SECRET": stack.jwt_secret} if are_ours() else {}),
        "MILLRACE_DATA_DIR": str(stack.data),
        "MILLRACE_NODE": "by-hand",
    }


def exported(variables: Mapping[str, str]) -> str:
    """Return lines that any POSIX shell can evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
