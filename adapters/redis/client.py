"""One way to connect: bounded waits, no silent retries, outages become Unavailable."""

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
# uvloop says RuntimeError when a connection that has just died is written to.
OUTAGES = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
_TIMEOUT_S = 2.0


class Address(NamedTuple):
    """Of one server."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: one server, or some nodes of a cluster."""

    url: str = field(repr=False)
    nodes: tuple[Address, ...]
    is_cluster: bool = False
    password: str | None = field(default=None, repr=False)

    def url_of(self, address: Address) -> str:
        """The URL of one of the servers alone."""
        if not self.is_cluster:
            return self.url
        return f"redis://:{quote(self.password or '', safe='')}@{address.host}:{address.port}"


def target(url: str) -> Target:
    """Read ``redis://[:password@]host:port/0``, or ``redis+cluster://[:password@]host:port,host:port``.

    Raises ValueError.
    """
    parts = urlsplit(url)
    if parts.scheme != CLUSTER:
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("no Redis URL")
        return Target(url, (Address(parts.hostname, parts.port or 6379),))
    credentials, _, hosts = parts.netloc.rpartition("@")
    each = [urlsplit(f"//{host}") for host in hosts.split(",")]
    nodes = tuple(Address(one.hostname, one.port or 6379) for one in each if one.hostname)
    if len(nodes) != len(each):
        raise ValueError("no Redis URL")
    return Target(url, nodes, True, unquote(credentials.partition(":")[2]) or None)


def connect(target: Target, address: Address | None = None) -> Redis:
    """A client of one server that gives up within seconds; nothing is sent yet."""
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


async def ask(client: Redis, *words: Any) -> Any:
    """The answer to one command. Raises the client's errors."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Errors of the client leave as ours."""
    try:
        yield
    except OUTAGES as exc:
        raise Unavailable("Redis does not answer") from exc
