"""Transports of clients: connections of websockets with the bounds that the library leaves to its user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN, Event
from websockets.typing import Subprotocol

from gateway import handshake
from gateway.admission import Admission, ConnectionSlot
from gateway.limits import BURST_S, Bucket
from gateway.send_queue import CLOSE_S, HARD_MAX, RESUME_BELOW
from gateway.session import TOO_MANY
from runtime.http.refusals import MAX_HEAD
from runtime.listener import open_listener
from schemas.commands import MAX_FRAME

_log = structlog.get_logger()

HEARTBEAT_S = 20
_BACKLOG = 4096
"""Handshakes that may wait; beyond it the kernel drops them, and the client tries again a second later."""
_FRAGMENTS = 4
"""A message may come in so many frames on average, with pings and pongs."""

Handler: TypeAlias = Callable[["ClientTransport"], Awaitable[None]]
Check: TypeAlias = Callable[["ClientTransport", Request], Response | None]
Select: TypeAlias = Callable[[ServerConnection, Sequence[Subprotocol]], Subprotocol | None]


class ClientTransport(ServerConnection):
    """The TCP connection of a client. ``slot`` counts it; ``log`` is bound to its ids once they are known."""

    def __init__(self, admission: Admission, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        rate = admission.limits.frames_per_s * _FRAGMENTS
        self.slot: ConnectionSlot | None = None
        self.log: FilteringBoundLogger = _log
        self._admission = admission
        self._frames = Bucket(rate, rate * BURST_S)
        self._request_bytes = 0
        self._flooded = False
        self._ending = False

    def connection_made(self, transport: Any) -> None:
        """Take a slot, or abort when there is none."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.slot = self._admission.accept(name[0] if isinstance(name, tuple) else None)
        if self.slot is None:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the slot."""
        super().connection_lost(exc)
        if self.slot is not None:
            self.slot.leave()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client, until it has sent more than it may."""
        if self.protocol.state is CONNECTING and not self._fits(data):
            return
        super().data_received(data)
        if self.transport.get_write_buffer_size() > HARD_MAX:
            # What is written beyond HARD_MAX answers its own pings.
            buffered = self.transport.get_write_buffer_size()
            self.log.info("connection_aborted", reason="pings_unread", buffered_bytes=buffered)
            self.transport.abort()
        elif self.protocol.close_expected() and not self._ending:
            self._ending = True  # the library leaves a client that never ends its side to the next keepalive
            self.loop.call_later(CLOSE_S, self.transport.abort)

    def process_event(self, event: Event) -> None:
        """Process the request or a frame; fail the connection beyond the rate of frames."""
        if self._flooded:
            return
        if self.request is not None and self.protocol.state is OPEN and not self._frames.take(self.loop.time()):
            self._flooded = True
            self.log.info("connection_closing", code=TOO_MANY.code, reason=TOO_MANY.reason)
            self.protocol.fail(TOO_MANY.code, TOO_MANY.reason)
            self.send_data()
            return
        super().process_event(event)

    def _fits(self, data: bytes) -> bool:
        self._request_bytes += len(data)
        if self._request_bytes <= MAX_HEAD:
            return True
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.transport.write(
            handshake.problem(status, "headers_too_large", f"a request must have at most {MAX_HEAD} bytes").serialize()
        )
        self.transport.close()
        return False


async def listen(
    host: str,
    port: int,
    admission: Admission,
    handler: Handler,
    check: Check | None = None,
    select: Select | None = None,
) -> Server:
    """Start to listen."""
    return await serve(
        handler,  # type: ignore[arg-type]
        sock=open_listener(host, port),
        backlog=_BACKLOG,
        create_connection=lambda *args, **more: ClientTransport(admission, *args, **more),  # type: ignore[arg-type]
        process_request=check,  # type: ignore[arg-type]
        select_subprotocol=select,
        compression=None,
        max_size=MAX_FRAME,
        max_queue=16,
        write_limit=RESUME_BELOW,
        ping_interval=HEARTBEAT_S,
        ping_timeout=HEARTBEAT_S,
        close_timeout=CLOSE_S,
        open_timeout=admission.limits.handshake_timeout_s or None,
        server_header=None,
    )
