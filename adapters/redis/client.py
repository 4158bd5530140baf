"""Clients of Redis servers: bounded waits, no silent retries; outages become Unavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from domain.errors import Unavailable

CLUSTER = "redis+cluster"
# uvloop raises RuntimeError for a write to a connection that has just died.
OUTAGES = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
_TIMEOUT_S = 2.0


class Address(NamedTuple):
    """Host and port of one server."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """Servers that a URL names: one alone, or some nodes of a cluster."""

    url: str = field(repr=False)
    nodes: tuple[Address, ...]
    is_cluster: bool = False
    password: str | None = field(default=None, repr=False)

    def url_of(self, address: Address) -> str:
        """Return the URL of one of the servers, as of a server alone."""
        if not self.is_cluster:
            return self.url
        return f"redis://:{quote(self.password or '', safe='')}@{address.host}:{address.port}"


def target(url: str) -> Target:
    """Parse ``redis://[:password@]host:port/0``, or ``redis+cluster://[:password@]host:port,host:port``.

    Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme != CLUSTER:
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("the Redis URL must be redis://HOST:PORT/0 or redis+cluster://HOST:PORT,HOST:PORT")
        return Target(url, (Address(parts.hostname, parts.port or 6379),))
    credentials, _, hosts = parts.netloc.rpartition("@")
    addresses = [urlsplit(f"//{host}") for host in hosts.split(",")]
    nodes = tuple(Address(each.hostname, each.port or 6379) for each in addresses if each.hostname)
    if len(nodes) != len(addresses):
        raise ValueError("the Redis URL must be redis://HOST:PORT/0 or redis+cluster://HOST:PORT,HOST:PORT")
    return Target(url, nodes, True, unquote(credentials.partition(":")[2]) or None)


def connect(target: Target, address: Address | None = None) -> Redis:
    """Return a client of one server that gives up within seconds. Nothing is sent yet."""
    bounds: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 64,
    }
    if not target.is_cluster:
        return Redis.from_url(target.url, **bounds)
    host, port = address or target.nodes[0]
    return Redis(host=host, port=port, password=target.password, **bounds)


async def execute(client: Redis, *arguments: Any) -> Any:
    """Return the reply to one command. Raises the client's errors."""
    return await client.execute_command(*arguments)  # type: ignore[no-untyped-call]


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Raise Unavailable in place of the client's errors."""
    try:
        yield
    except OUTAGES as exc:
        raise Unavailable("Redis does not answer") from exc
