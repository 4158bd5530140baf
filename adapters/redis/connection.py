"""Connection to one Redis server: parses all replies of a read at once, and writes once in each turn of the loop.

Reading a message through the client library costs many times more (docs/performance.md). The library still supplies the
parameters of a connection: host, TLS, user and password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

import structlog
from hiredis import ProtocolError, Reader, pack_command
from redis.asyncio import Redis
from redis.exceptions import MovedError, ResponseError

from adapters.redis.target import Address

_log = structlog.get_logger()

CONNECT_S = 2.0
_PING_AFTER_S = 4.0
_PING_AGAIN_S = 1.0
_SILENT_S = 6.5
"""Seconds without a reply, also to a ping, after which the server counts as gone."""


class RedisConnection(asyncio.Protocol):
    """Connection to a server. ``on_reply`` gets each reply: a list for a push, ResponseError for an error."""

    def __init__(self, on_reply: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._now = loop.time
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._unsent: list[bytes] = []
        self._reader = Reader(replyError=_error)
        self._lost: asyncio.Future[None] = loop.create_future()
        self._received_at = loop.time()
        self._paused = False
        self._transport: asyncio.Transport
        self.server = ""
        """Host and port of the other end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods and not the base class
        self.server = _name(transport.get_extra_info("peername"))
        _log.debug("redis_connection_opened", server=self.server)

    def data_received(self, data: bytes) -> None:
        self._received_at = self._now()
        reader, on_reply = self._reader, self._on_reply
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                on_reply(reply)
        except ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        _log.debug("redis_connection_lost", server=self.server, reason=type(exc).__name__ if exc else "closed")
        self._on_lost()

    @property
    def is_lost(self) -> bool:
        """Return True once the connection has ended."""
        return self._lost.done() or self._transport.is_closing()

    def send(self, *commands: Iterable[Any]) -> None:
        """Write these commands in this turn of the loop; drop them if the connection has just died."""
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent += [pack_command(tuple(command)) for command in commands]

    def _write(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def pause_reading(self) -> None:
        """Stop reading for now, because too many replies wait already."""
        if not (self._paused or self._transport.is_closing()):
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._received_at = self._now()
            self._transport.resume_reading()

    async def until_lost(self) -> None:
        """Raise ConnectionError once the connection has ended, TimeoutError once its server is silent for too long."""
        wait = _PING_AFTER_S
        while not self._lost.done():
            await asyncio.wait({self._lost}, timeout=wait)
            # While reading is paused the silence is ours, not the server's.
            silent = 0.0 if self._paused else self._now() - self._received_at
            if silent >= _SILENT_S:
                raise TimeoutError("the server is silent")
            if silent >= _PING_AFTER_S:
                self.send(["PING"])
            wait = wait_s(silent)
        raise ConnectionError("the connection has ended")

    def close(self) -> None:
        """End the connection at once."""
        self._transport.abort()


def wait_s(silent: float) -> float:
    """Return the seconds until a server that has been silent for so long must be looked at again."""
    return _PING_AFTER_S - silent if silent < _PING_AFTER_S else max(0.001, min(_PING_AGAIN_S, _SILENT_S - silent))


async def open_connection(
    client: Redis, on_reply: Callable[[Any], None], on_lost: Callable[[], None] = lambda: None
) -> RedisConnection:
    """Connect with the client's parameters; nothing is sent yet. Raises what the client would."""
    template = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    async with asyncio.timeout(CONNECT_S):
        loop = asyncio.get_running_loop()

        def made() -> RedisConnection:
            return RedisConnection(on_reply, on_lost)

        if path := getattr(template, "path", None):
            _, connection = await loop.create_unix_connection(made, path)
        else:
            _, connection = await loop.create_connection(made, **template._connection_arguments())
    return connection


def _name(peer: Any) -> str:
    """Return the address of the other end, for the log; that of a socket is a path."""
    return str(Address(*peer[:2])) if isinstance(peer, tuple) else str(peer or "")


def credentials(client: Redis) -> tuple[str | None, str | None, int]:
    """Return user, password and number of the database. Raises RedisError for a file that cannot be read."""
    parameters = client.connection_pool.connection_kwargs
    user, password = parameters.get("username"), parameters.get("password")
    if provider := parameters.get("credential_provider"):
        user, password = provider.get_credentials()
    return user, password, int(parameters.get("db") or 0)


def _error(text: str) -> ResponseError:
    kind, _, rest = text.partition(" ")
    return MovedError(rest) if kind == "MOVED" else ResponseError(text)
