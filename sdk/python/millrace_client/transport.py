"""A WebSocket: opening it, cutting it, and what its end means for the next try."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import quote

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from millrace_client.errors import MillraceClientError, ProtocolError, Unauthenticated, refusal
from millrace_client.types import Problem

MAX_FRAME = 2**20
_BAD_FRAMES, _TOKEN_ENDED = 4400, 4401
_FINAL_STATUS = frozenset({400, 401, 403, 404, 422})


class ClientTransport(ClientConnection):
    """A connection that can be cut without a closing handshake.

    asyncio hands its transport to ``connection_made``; websockets documents no attribute that holds it.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self._cuttable = cast(asyncio.Transport, transport)
        super().connection_made(transport)

    def abort(self) -> None:
        """Cut the connection: the peer is told nothing, and data that waits is dropped."""
        self._cuttable.abort()


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a connection, or of a try to open one. With an ``error`` another try would end in the same way."""

    reason: str
    code: int | None = None
    retry_after_s: float = 0.0
    error: MillraceClientError | None = None


async def open_transport(url: str, token: str, device: str | None, ping_interval_s: float | None) -> ClientTransport:
    """Open a WebSocket. Raises websockets' InvalidHandshake, OSError, TimeoutError."""
    if device is not None:
        url = f"{url}{'&' if '?' in url else '?'}device={quote(device)}"
    options: dict[str, Any] = {
        "additional_headers": {"Authorization": f"Bearer {token}"},
        "compression": None,
        "max_size": MAX_FRAME,
        "max_queue": 256,
        "ping_interval": ping_interval_s,
        "open_timeout": 20,
        "close_timeout": 2,
        "proxy": None,
        "create_connection": ClientTransport,
        "logger": _logger(),
    }
    return cast(ClientTransport, await connect(url, **options))


@cache
def _logger() -> logging.Logger:
    """Return a logger for websockets that never logs at DEBUG: it would log the token and every frame."""
    logger = logging.getLogger("millrace_client.websockets")
    logger.setLevel(logging.INFO)
    return logger


def ending_of(exc: Exception) -> Ending:
    """Return what an exception of websockets or of the network means."""
    if isinstance(exc, ConnectionClosed):
        return _closed(exc.rcvd.code if exc.rcvd is not None else None)
    if isinstance(exc, InvalidStatus):
        return _refused(exc.response)
    return Ending("does not answer")


def _closed(code: int | None) -> Ending:
    if code is None:
        return Ending("was lost")
    error: MillraceClientError | None = None
    if code == _TOKEN_ENDED:
        error = Unauthenticated(401, "unauthenticated", f"closed with {code}: the token has ended or was revoked")
    elif code == _BAD_FRAMES:
        error = ProtocolError(f"closed with {code}: the server does not understand the frames of this client")
    return Ending(f"closed the connection with {code}", code, error=error)


def _refused(response: Response) -> Ending:
    status = response.status_code
    try:
        problem = msgspec.json.decode(response.body or b"", type=Problem)
    except msgspec.MsgspecError:
        problem = Problem()
    error = None
    if status in _FINAL_STATUS:
        error = refusal(status, problem.code, problem.detail or "the connection was refused")
    return Ending(
        f"refused the connection with {status}", None, retry_after(response.headers.get("Retry-After")), error
    )


def retry_after(header: str | None) -> float:
    """Return the seconds that a ``Retry-After`` header asks for; 0 without one, or when it holds a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
