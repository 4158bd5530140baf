"""``millrace env``: the environment variables of a stack, for a shell, a debugger or a process started by hand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from cli.target import Server
from stack.errors import OperatorError
from stack.ports import allot
from stack.running import RunningStack
from stack.tokens import AUDIENCE, ISSUER
from stack.topology import node_name, role

_TOKEN_S = 86_400


def for_clients(stack: RunningStack) -> dict[str, str]:
    """Return the public addresses, and two tokens valid for a day if the stack signs its own."""
    tokens = {}
    if stack.signer is not None:
        tokens = {user.upper(): stack.signer.token(user, ttl_s=_TOKEN_S) for user in ("alice", "bob")}
    return {"API": stack.http_url, "WS": stack.ws_url, **tokens}


def for_process(stack: RunningStack, name: str | None = None) -> dict[str, str]:
    """Return the settings of a process started by hand.

    With a name these are the settings of a process that ``millrace up`` has left out: it takes its place. Without one
    it is an extra process of any kind, with the owner's login, free ports and a node name of its own. Raises
    OperatorError when the named process runs or is not part of the stack.
    """
    node = _left_out(stack, name) if name is not None else _extra()
    variables = {
        Server.POSTGRES.value: stack.pg_dsn if name is None else stack.pg_dsn_of(name),
        **{f"MILLRACE_KAFKA__{name.upper()}": value for name, value in stack.kafka.given.items()},
        Server.REDIS.value: stack.redis_url,
        Server.HTTP.value: stack.http_url,
        Server.WEBSOCKET.value: stack.ws_url,
        "MILLRACE_DATA_DIR": str(stack.data),
        **node,
    }
    if stack.signer is not None:
        signer = stack.signer
        variables |= {Server.SECRET.value: signer.secret, ISSUER: signer.issuer, AUDIENCE: signer.audience}
    return variables


def _extra() -> dict[str, str]:
    ports = allot(["http", "ws", "ops"], {}, {})
    variables = {f"MILLRACE_{name.upper()}__PORT": str(port) for name, port in ports.items()}
    return {"MILLRACE_NODE": f"by-hand-{ports['ops']}", **variables}


def _left_out(stack: RunningStack, name: str) -> dict[str, str]:
    process = next((one for one in stack.left_out if one.name == name), None)
    if process is None:
        running = any(one["name"] == name for one in stack.processes)
        reason = "runs" if running else "is not a process"
        names = ", ".join(one.name for one in stack.left_out) or "none"
        raise OperatorError(
            f"{name} {reason} in this stack; left out are: {names}. Leave one out with `millrace up --without NAME`,"
            " or name none to start an extra process"
        )
    variables = {
        "MILLRACE_NODE": node_name(name, is_cluster=stack.is_cluster),
        "MILLRACE_OPS__PORT": str(process.ops_port),
    }
    if process.port is not None:
        variables[{"ingest": "MILLRACE_HTTP__PORT", "gateway": "MILLRACE_WS__PORT"}[role(name)]] = str(process.port)
    return variables


def exported(variables: Mapping[str, str]) -> str:
    """Return lines that any POSIX shell can evaluate."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def dotenv(variables: Mapping[str, str]) -> str:
    """Return the lines of a .env file, as editors read it for a debugger."""
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in variables.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
