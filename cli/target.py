"""The stack that a command works on: its servers come from one place only. See ``cli.command``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime.variables import value_of
from stack.errors import OperatorError
from stack.given import DIRECT
from stack.logins import OPERATOR
from stack.running import RunningStack, running_stack
from stack.tokens import Signer, signs_its_own

if TYPE_CHECKING:
    from runtime.kafka_settings import Kafka


class Server(Enum):
    """A server that a command may need; the value is the environment variable that names it."""

    POSTGRES = "MILLRACE_PG__DSN"
    KAFKA = "MILLRACE_KAFKA__BOOTSTRAP"
    REDIS = "MILLRACE_REDIS__URL"
    HTTP = "MILLRACE_HTTP_URL"
    WEBSOCKET = "MILLRACE_WS_URL"
    SECRET = "MILLRACE_AUTH__SECRET"


ADDRESSES = frozenset(Server) - {Server.SECRET}
_FORMS = {
    Server.POSTGRES: "postgresql://user:password@host:5432/database",
    Server.KAFKA: "host:9092",
    Server.REDIS: "redis://:password@host:6379/0",
    Server.HTTP: "https://host",
    Server.WEBSOCKET: "wss://host/ws",
    Server.SECRET: "32 bytes or more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The stack that a command works on: the servers that the command asked for, and no others.

    An address that was not asked for raises KeyError. ``running`` is the stack of this machine, None for one that the
    environment names. ``str(target)`` holds no password.
    """

    origin: str
    addresses: Mapping[Server, str] = field(repr=False)
    running: RunningStack | None = None
    signer: Signer | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.running is not None:
            return self.origin
        return f"{self.origin} ({', '.join(_public(server, value) for server, value in self.addresses.items())})"

    @property
    def pg_dsn(self) -> str:
        """The connection string of PostgreSQL for commands of operators."""
        return self.addresses[Server.POSTGRES]

    @property
    def owner_dsn(self) -> str:
        """The connection string of the owner of the database; of an environment, the one that it names."""
        return self.pg_dsn if self.running is None else self.running.pg_dsn

    @property
    def kafka(self) -> Kafka:
        """The connection to Kafka; the environment says how, except for a stack of this machine. Raises BadSettings."""
        bootstrap = self.addresses[Server.KAFKA]
        if self.running is not None:
            return self.running.kafka
        from runtime.read_settings import read_settings

        return read_settings().kafka.model_copy(update={"bootstrap": bootstrap})

    @property
    def redis_url(self) -> str:
        """The URL of Redis or of a Redis Cluster."""
        return self.addresses[Server.REDIS]

    @property
    def http_url(self) -> str:
        """The public URL of the HTTP API."""
        return self.addresses[Server.HTTP].rstrip("/")

    @property
    def ws_url(self) -> str:
        """The public URL of the WebSocket."""
        return self.addresses[Server.WEBSOCKET]

    def token(self, user: str, *, ttl_s: int) -> str:
        """Return a token for the user. Raises OperatorError when an issuer signs this stack's tokens, or the user id is
        not valid."""
        if self.signer is None:
            raise OperatorError("tokens of this stack come from the issuer of MILLRACE_AUTH__JWKS_URL")
        return self.signer.token(user, ttl_s=ttl_s)


def resolve(data: Path | None, needs: Sequence[Server]) -> Target:
    """Return the stack to work on. Raises OperatorError when none is named, a needed server is missing, or an address
    is not valid."""
    if data is not None:
        return _of_folder(running_stack(data), needs)
    named = named_servers()
    if not (named.keys() & ADDRESSES or named.keys() >= set(needs)):
        try:
            return _of_folder(running_stack(None), needs)
        except OperatorError as exc:
            raise OperatorError(f"{exc}, or set {names(needs)}") from exc
    if (here := stack_here(named)) is not None:
        return _of_folder(here, needs)
    return _of_environment(named, needs)


def named_servers() -> dict[Server, str]:
    """Return what the environment names. Raises OperatorError for an empty variable: a script meant to set it."""
    values = {server: value_of(server.value, os.environ) for server in Server}
    named = {server: value.strip() for server, value in values.items() if value is not None}
    if empty := [server for server, value in named.items() if not value]:
        raise OperatorError(f"{names(empty)} must not be empty: set it, or unset it, or name a stack with --data")
    if Server.POSTGRES in named and (direct := os.environ.get(DIRECT, "").strip()):
        named[Server.POSTGRES] = direct  # commands are few, and set up what no pooler passes on
    return named


def stack_here(named: Mapping[Server, str]) -> RunningStack | None:
    """Return the stack that runs here if all that the environment names is a part of it: then there is no choice."""
    try:
        stack = running_stack(None)
    except OperatorError:
        return None
    addresses = _addresses(stack)
    return stack if all(_same(server, addresses[server], value) for server, value in named.items()) else None


def _same(server: Server, one: str, other: str) -> bool:
    """Return whether two addresses name the same server; a database has several logins."""
    if server is not Server.POSTGRES:
        return one == other
    from adapters.postgres.conninfo import place

    try:
        return place(one) == place(other)
    except ValueError:
        return False


def _addresses(stack: RunningStack) -> dict[Server, str]:
    return {
        Server.POSTGRES: stack.pg_dsn_of(OPERATOR),
        Server.KAFKA: stack.kafka.bootstrap,
        Server.REDIS: stack.redis_url,
        Server.HTTP: stack.http_url,
        Server.WEBSOCKET: stack.ws_url,
        Server.SECRET: stack.jwt_secret,
    }


def _of_folder(stack: RunningStack, needs: Sequence[Server]) -> Target:
    addresses = {server: value for server, value in _addresses(stack).items() if server in needs}
    return Target(origin=shown_path(stack.data), addresses=addresses, running=stack, signer=stack.signer)


def _of_environment(named: Mapping[Server, str], needs: Sequence[Server]) -> Target:
    signer = None
    if Server.SECRET in needs:
        if not signs_its_own(os.environ):
            raise OperatorError(
                "this command signs its own tokens, and those of this stack come from the issuer of"
                " MILLRACE_AUTH__JWKS_URL"
            )
        signer = Signer.of(named.get(Server.SECRET, ""), os.environ)
    if missing := [server for server in needs if server not in named]:
        raise OperatorError(
            f"{names(missing)} must be set too, since the environment names a stack by {names(named)};"
            " or name a stack on this machine with --data"
        )
    target = Target(origin="environment", addresses={server: named[server] for server in needs}, signer=signer)
    str(target)  # an address of the wrong form ends the command here
    return target


def names(servers: Sequence[Server] | Mapping[Server, str]) -> str:
    """Return the environment variables of the servers."""
    return ", ".join(server.value for server in servers)


def _public(server: Server, value: str) -> str:
    """Return the name and address of a server without user and password. Raises OperatorError when it is not valid."""
    try:
        return f"{server.name.lower()} {_address(server, value)}"
    except ValueError as exc:
        about = f": {exc}" if server is Server.REDIS else ""  # which quotes no password
        raise OperatorError(f"{server.value} must be of the form {_FORMS[server]}{about}") from exc


def _address(server: Server, value: str) -> str:
    if server is Server.SECRET:
        return "of MILLRACE_AUTH__SECRET"
    if server is Server.POSTGRES:
        from adapters.postgres.conninfo import place

        return place(value)
    if server is Server.REDIS:
        from adapters.redis.target import target

        return str(target(value))
    if server is Server.KAFKA:
        if not value or "/" in value or "@" in value:
            raise ValueError
        return value
    parts = urlsplit(value)
    if parts.scheme not in (("http", "https") if server is Server.HTTP else ("ws", "wss")) or not parts.hostname:
        raise ValueError
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown_path(path: Path) -> str:
    """Return the path relative to the current folder if it lies below it."""
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)
