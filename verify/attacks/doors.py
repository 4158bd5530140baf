"""The front doors of a stack, as a hostile client sees them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

GONE = (OSError, TimeoutError, asyncio.IncompleteReadError, httpx2.HTTPError, WebSocketException)
"""Errors of a connection that the server refuses or ends, as it may do to a hostile client."""
_CALL_S = 20.0


@dataclass(slots=True)
class Tally:
    """Number of connections that were opened, and of answers, so far."""

    served: int = 0


@dataclass(frozen=True, slots=True)
class Doors:
    """URLs of a stack, and tokens for any user. ``user`` is the hostile user, who has one ordinary token.

    ``history`` is a conversation of the user with many messages, if somebody has made one. ``address`` is where the
    user's connections come from: another address than that of honest clients, whom its limits do not meet.
    """

    http: str
    ws: str
    token: Callable[[str], str] = field(repr=False)
    user: str = field(default_factory=lambda: f"mallory.{secrets.token_hex(4)}")
    history: str = ""
    address: str = "127.0.0.2"
    tally: Tally = field(default_factory=Tally)

    @property
    def bearer(self) -> dict[str, str]:
        """The hostile user's header."""
        return {"authorization": f"Bearer {self.token(self.user)}"}

    async def _count(self, _: object = None) -> None:
        self.tally.served += 1

    @asynccontextmanager
    async def client(self, parallel: int = 100) -> AsyncIterator[httpx2.AsyncClient]:
        """Yield an HTTP client of the hostile user with at most so many connections."""
        limits = httpx2.Limits(max_connections=parallel, max_keepalive_connections=parallel)
        transport = httpx2.AsyncHTTPTransport(limits=limits, local_address=self.address)
        async with httpx2.AsyncClient(
            base_url=self.http,
            headers=self.bearer,
            timeout=_CALL_S,
            transport=transport,
            event_hooks={"response": [self._count]},
        ) as client:
            yield client

    async def tcp(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection to the HTTP port. Raises OSError."""
        url = urlsplit(self.http)
        streams = await asyncio.open_connection(url.hostname, url.port, local_addr=(self.address, 0))
        await self._count()
        return streams

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """Yield a socket of the hostile user, connected. Raises OSError and WebSocketException."""
        async with connect(
            self.ws,
            additional_headers=self.bearer,
            proxy=None,
            compression=None,
            max_size=None,
            local_addr=(self.address, 0),
        ) as socket:
            await socket.recv()
            await self._count()
            yield socket


Attack: TypeAlias = Callable[[Doors], Coroutine[Any, Any, None]]
"""Runs until it is cancelled."""


async def in_parallel(count: int, one: Callable[[int], Coroutine[Any, Any, None]], pause_s: float = 0.005) -> None:
    """Run ``one`` so many times at once, each again after a pause, whatever the server does to it."""

    async def repeat(number: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        # A TaskGroup that is cancelled while a child fails raises the child's error alone (before Python 3.13).
        while not task.cancelling():
            try:
                await one(number)
            except* GONE:
                pass
            await asyncio.sleep(pause_s)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(repeat(number))


async def say(socket: ClientConnection, **frame: object) -> None:
    """Send a frame."""
    await socket.send(orjson.dumps(frame).decode())
