"""Servers that run elsewhere, given by URL in the environment."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from stack.errors import OperatorError

GIVEN = {"pg": "MILLRACE_PG__DSN", "kafka": "MILLRACE_KAFKA__BOOTSTRAP", "redis": "MILLRACE_REDIS__URL"}
CHILD = {"pg": "postgres", "kafka": "kafka", "redis": "valkey"}


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that runs elsewhere, given by URL."""

    name: str
    host: str
    port: int


async def find_given() -> tuple[GivenServer, ...]:
    """Return the servers given by URL. Raises OperatorError, which names the variable, when one does not answer."""
    found = []
    for name, variable in GIVEN.items():
        text = os.environ.get(variable)
        if text:
            host, port = _address(name, text, variable)
            await _reach(host, port, name, variable)
            found.append(GivenServer(CHILD[name], host, port))
    return tuple(found)


def _address(name: str, text: str, variable: str) -> tuple[str, int]:
    try:
        if name == "pg":
            from adapters.postgres.migrate import address

            return address(text)
        if name == "redis":
            from adapters.redis.client import target

            return target(text).nodes[0]
        parts = urlsplit(f"//{text.split(',')[0]}")
        if not parts.hostname:
            raise ValueError
        return parts.hostname, parts.port or 9092
    except ValueError as exc:
        forms = {"pg": "postgresql://user@host:5432/name", "kafka": "host:9092", "redis": "redis://host:6379/0"}
        raise OperatorError(f"{variable} must be of the form {forms[name]}") from exc


async def _reach(host: str, port: int, name: str, variable: str) -> None:
    product = {"pg": "PostgreSQL", "kafka": "Kafka", "redis": "Redis"}[name]
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError) as exc:
        why = "no answer in 5 s" if isinstance(exc, TimeoutError) else "connection refused or no such host"
        raise OperatorError(
            f"{variable}: no {product} answers at {host}:{port} ({why}); start it, or unset the variable to get one"
        ) from exc
