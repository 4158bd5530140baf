"""Servers that run elsewhere, given by URL in the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runtime.variables import value_of
from stack.errors import OperatorError
from stack.probes import open_to

if TYPE_CHECKING:
    from runtime.kafka_settings import Kafka

_KAFKA = "MILLRACE_KAFKA__"
GIVEN = {"pg": "MILLRACE_PG__DSN", "kafka": "MILLRACE_KAFKA__BOOTSTRAP", "redis": "MILLRACE_REDIS__URL"}
DIRECT = "MILLRACE_PG__DIRECT_DSN"
"""PostgreSQL itself, where the other names a pooler."""
FORMS = {
    "pg": "postgresql://user@host:5432/name",
    "kafka": "host:9092",
    "redis": "redis://host:6379/0 (docs/connecting.md names the others)",
}
CHILD = {"pg": "postgres", "kafka": "kafka", "redis": "valkey"}


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that runs elsewhere, given by URL."""

    name: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """The address, as it is written in a URL; of a socket its path."""
        return _place(self.host, self.port)


def _place(host: str, port: int) -> str:
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def find_given() -> tuple[GivenServer, ...]:
    """Return the servers given by URL. Raises OperatorError, which names the variable, when one does not answer."""
    found = []
    _refuse_access_to_own_broker()
    for name, variable in GIVEN.items():
        if text := url_of(name):
            servers = _addresses(name, text, variable)
            host, port = await _reach(servers, name, variable)
            found.append(GivenServer(CHILD[name], host, port))
    return tuple(found)


def url_of(name: str) -> str:
    """Return the URL of a server that is given, ``pg``, ``kafka`` or ``redis``; empty for one that is not.

    Raises BadSettings.
    """
    return value_of(GIVEN[name], os.environ) or ""


def kafka_of(bootstrap: str) -> Kafka:
    """Return how to connect to the broker of the stack: as the environment says, or plainly to an embedded one.

    Raises BadSettings.
    """
    from runtime.kafka_settings import Kafka
    from runtime.read_settings import read_settings

    return read_settings().kafka if url_of("kafka") else Kafka(bootstrap=bootstrap)


def _refuse_access_to_own_broker() -> None:
    access = sorted(name for name, value in os.environ.items() if value and name.startswith(_KAFKA))
    if access and not url_of("kafka"):
        raise OperatorError(
            f"{access[0]} must come with {GIVEN['kafka']}: the broker that `millrace up` starts takes PLAINTEXT only"
        )


def _addresses(name: str, text: str, variable: str) -> Sequence[tuple[str, int]]:
    """Return the servers that a URL names, each by host and port, or by the path of its socket and 0."""
    try:
        if name == "pg":
            from adapters.postgres.conninfo import addresses

            return [
                (f"{host}/.s.PGSQL.{port}", 0) if host[:1] in "/@" else (host, port) for host, port in addresses(text)
            ]
        if name == "redis":
            from adapters.redis.target import target

            return target(text).nodes
        brokers = [urlsplit(f"//{each}") for each in text.split(",")]
        return [(_host(broker.hostname), broker.port or 9092) for broker in brokers]
    except ValueError as exc:
        raise OperatorError(f"{variable} must be of the form {FORMS[name]}") from exc


def _host(name: str | None) -> str:
    if not name:
        raise ValueError("no host is named")
    return name


async def _reach(servers: Sequence[tuple[str, int]], name: str, variable: str) -> tuple[str, int]:
    """Return the first server that accepts a connection. Raises OperatorError."""
    product = {"pg": "PostgreSQL", "kafka": "Kafka", "redis": "Redis"}[name]
    why = ""
    for host, port in servers:
        try:
            async with asyncio.timeout(5):
                _, writer = await open_to(host, port)
                writer.close()
                return host, port
        except (OSError, TimeoutError) as exc:
            why = "no answer in 5 s" if isinstance(exc, TimeoutError) else "connection refused or no such host"
    places = ", ".join(_place(host, port) for host, port in servers)
    raise OperatorError(
        f"{variable}: no {product} answers at {places} ({why}); start it, or unset the variable to get one"
    )
