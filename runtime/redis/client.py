"""One way to connect: bounded waits, no silent retries, outages become Unavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from runtime.errors import Unavailable


def connect(url: str) -> Redis:
    """A client that gives up within seconds; nothing is sent yet."""
    return Redis.from_url(
        url,
        socket_timeout=5,
        socket_connect_timeout=2,
        socket_keepalive=True,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 0),
        max_connections=64,
    )


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Errors of the client leave as ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as exc:
        raise Unavailable("Redis does not answer") from exc
