"""A connection, read a socket's worth at a time, and written to once in each turn of the loop.

A message costs a small part of what it costs to read it through the client library (docs/performance.md), which still
says how to connect: host, TLS, user and password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

from hiredis import ProtocolError, Reader, pack_command
from redis.asyncio import Redis
from redis.exceptions import MovedError, ResponseError

CONNECT_S = 2.0
_LOOK_S = 1.0
_ASK_AFTER_S = 4.0
_SILENT_S = 6.5
"""A server that has not answered a ping for so long is gone."""


class Line(asyncio.Protocol):
    """One connection. ``heard`` gets each reply: a list for what is pushed, ResponseError for an error."""

    def __init__(self, heard: Callable[[Any], None], ended: Callable[[], None]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._now = loop.time
        self._heard = heard
        self._ended = ended
        self._out: list[bytes] = []
        self._reader = Reader(replyError=_error)
        self._lost: asyncio.Future[None] = loop.create_future()
        self._heard_at = loop.time()
        self._resting = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop only behaves like one

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._now()
        reader, heard = self._reader, self._heard
        reader.feed(data)
        try:
            while (said := reader.gets()) is not False:
                heard(said)
        except ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        self._ended()

    @property
    def is_lost(self) -> bool:
        """Whether it has ended."""
        return self._lost.done() or self._transport.is_closing()

    def send(self, *commands: Iterable[Any]) -> None:
        """Write these commands in this turn of the loop, unless the connection has just died."""
        if not self._out:
            self._loop.call_soon(self._write)
        self._out += [pack_command(tuple(command)) for command in commands]

    def _write(self) -> None:
        out, self._out = self._out, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def rest(self) -> None:
        """Read nothing for now: too much waits already."""
        if not (self._resting or self._transport.is_closing()):
            self._resting = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._resting and not self._transport.is_closing():
            self._resting = False
            self._heard_at = self._now()
            self._transport.resume_reading()

    async def until_lost(self) -> None:
        """Raises ConnectionError once it has ended, TimeoutError once its server has been silent for too long."""
        while not self._lost.done():
            await asyncio.wait({self._lost}, timeout=_LOOK_S)
            silent = 0.0 if self._resting else self._now() - self._heard_at
            if silent > _SILENT_S:
                raise TimeoutError("the server is silent")
            if silent > _ASK_AFTER_S:
                self.send(["PING"])
        raise ConnectionError("the connection has ended")

    def close(self) -> None:
        """End it."""
        self._transport.abort()


async def open_line(client: Redis, heard: Callable[[Any], None], ended: Callable[[], None] = lambda: None) -> Line:
    """Connect as the client would; nothing is said yet. Raises what it would."""
    like = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    async with asyncio.timeout(CONNECT_S):
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(heard, ended), **like._connection_arguments())
    return line


def credentials(client: Redis) -> tuple[str | None, str | None, int]:
    """User, password and number of the database."""
    asked = client.connection_pool.connection_kwargs
    return asked.get("username"), asked.get("password"), int(asked.get("db") or 0)


def _error(said: str) -> ResponseError:
    kind, _, rest = said.partition(" ")
    return MovedError(rest) if kind == "MOVED" else ResponseError(said)
