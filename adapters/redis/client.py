"""Clients of Redis servers: bounded waits, no silent retries; outages become Unavailable."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from adapters.redis.target import Address, Login, Target
from domain.errors import Unavailable
from runtime.variables import secret_of

# uvloop raises RuntimeError for a write to a connection that has just died.
OUTAGES = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
_TIMEOUT_S = 2.0
_MAX_TEXT = 300
_TROUBLE = {
    "WRONGPASS": "Redis refuses the login",
    "NOAUTH": "Redis refuses the login",
    "NOPERM": "Redis denies this user a right",
    "READONLY": "Redis is a replica",
}
"""By the first word of an error reply."""


class PasswordUnreadable(RedisError):
    """The file of a password cannot be read."""


class FromFile(CredentialProvider):
    """User and password of a login whose password is in a file, which is read at each new connection."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password. Raises PasswordUnreadable."""
        try:
            return self._login.user or "default", secret_of(Path(self._login.file))
        except (OSError, UnicodeDecodeError) as exc:
            raise PasswordUnreadable(self._login.file) from exc


def connect(target: Target, address: Address | None = None) -> Redis:
    """Return a client of one server that gives up within seconds. Nothing is sent yet."""
    return _client(target, address or target.nodes[0], target.login, target.database)


def connect_sentinel(target: Target, address: Address) -> Redis:
    """Return a client of one Sentinel. Nothing is sent yet."""
    return _client(target, address, target.sentinel_login, 0)


def _client(target: Target, address: Address, login: Login, database: int) -> Redis:
    bounds: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 64,
        "driver_info": None,  # CLIENT SETINFO is a right more
    }
    place = {"host": address.host, "port": address.port} if address.port else {"unix_socket_path": address.host}
    who: dict[str, Any] = {"username": login.user, "password": login.password}
    if login.file:
        who = {"credential_provider": FromFile(login)}
    return Redis(**who, db=database, **place, **(target.tls or {}), **bounds)


async def execute(client: Redis, *arguments: Any) -> Any:
    """Return the reply to one command. Raises the client's errors."""
    return await client.execute_command(*arguments)  # type: ignore[no-untyped-call]


def unavailable(exc: BaseException) -> Unavailable:
    """Return the error for an outage, with what the server or the driver says of it."""
    return Unavailable(_trouble(exc), says(exc))


def _trouble(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLError):
        return "TLS with Redis fails"
    if isinstance(exc, PasswordUnreadable):
        return "password_file of the Redis URL must name a file of text that can be read"
    known = _TROUBLE.get(str(exc).partition(" ")[0])
    if known or not isinstance(exc, ResponseError):
        return known or "Redis does not answer"
    return "Redis refused a command"


def says(exc: BaseException) -> str:
    """Return the words of the server or the driver in one line; neither quotes a password."""
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:_MAX_TEXT]


@contextmanager
def unavailable_on_outage() -> Iterator[None]:
    """Raise Unavailable in place of the client's errors."""
    try:
        yield
    except OUTAGES as exc:
        raise unavailable(exc) from exc
