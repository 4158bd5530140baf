"""HTTP/1.1 connections with the bounds that uvicorn leaves to a proxy in front.

A connection is in one of these states, each of which ends by a deadline:

    waiting ──► head ──► body ──► the application works ──► waiting
    silent or   10 s     10 s without        (its own
    idle: 75 s           enough bytes        deadline)

Beside them, an answer that waits for its client must get shorter, else the connection is aborted.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import structlog
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from domain.addresses import parsed
from runtime.http.body_parser import body_parser, has_body
from runtime.http.deadline import Deadline
from runtime.http.flow import Flow
from runtime.http.joined_writes import JoinedWrites
from runtime.http.limits import Connections, Slot
from runtime.http.refusals import LATE, LONG_HEAD, LONG_TARGET, MALFORMED, MAX_HEAD, Refusal, Refused, check_head
from runtime.metrics import REFUSED_REQUESTS

_log = structlog.get_logger()

_SLICE = 1024
"""Bytes that are parsed at a time: requests in the same slice are begun together, and all others wait unparsed."""
_BODY_SLICE = 64 * 1024
"""The same for a body of known length, in which no other request can be."""
_FRAMING_PER_BYTE = 8
"""Bytes of chunk framing that a byte of a body may bring beyond ``MAX_HEAD``. A chunk of one byte brings 5."""
_MIN_BODY_RATE = 2 * 1024
"""Bytes of a body a second, on average over the time for a request."""
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
_UNREAD_BODY = 64 * 1024
"""Bytes of a body that are discarded after its answer, so that the connection can be used again."""
_NOTHING = memoryview(b"")


class BoundedProtocol(HttpToolsProtocol):
    """The connection of a client, among all ``bounds`` of its server."""

    def __init__(self, bounds: Connections, config: Config, server_state: ServerState, **more: Any) -> None:
        super().__init__(config=config, server_state=server_state, **more)
        self.bounds = bounds
        self.limits = bounds.limits
        self.slot: Slot | None = None
        self._peer_is_proxy = False
        self._unparsed = _NOTHING
        self._in_head = False
        self._in_body = False
        self._content_left = 0
        self._allowance = MAX_HEAD
        self._owed = 0  # answers
        self._unread = 0  # bytes that came for a request which is answered, or refused
        self._refusal: Refusal | None = None  # to be sent after the answers that are owed
        self._lingering = False
        self._half_closed = False
        self._deadline = Deadline(self.loop)

    # The transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a slot. Without one, answer why, or abort."""
        transport = JoinedWrites(transport)
        super().connection_made(transport)
        self.flow = Flow(
            transport, self._parse, lambda: bool(self.pipeline), self._stalled, self.limits.slow_client_timeout_s
        )
        address = parsed(self.client[0]) if self.client is not None else None
        self._peer_is_proxy = address is not None and self.bounds.proxies.trusts(address)
        self.slot = self.bounds.accept(self, self.client[0] if self.client is not None else None)
        if self.slot is None:
            self._count("unavailable")
            transport.abort()
        elif self.slot.refusal is not None:
            self._refuse(self.slot.refusal)
        else:
            self._deadline.set(self.limits.request_timeout_s, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the slot."""
        super().connection_lost(exc)
        self._unparsed = _NOTHING
        self._deadline.cancel()
        self.bounds.forget(self)
        if self.slot is not None:
            self.slot.leave()

    def evict(self) -> None:
        """Close at once, to make room."""
        self._count("evicted")
        self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers of requests that are here whole, though no other can come."""
        self._half_closed = self._owed > 0 and not self._in_body
        return self._half_closed

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client. Few enough are parsed at a time that it cannot queue requests without bound."""
        if self._ended:
            self._unread += len(data)
            if self._unread > _LINGER_BYTES:
                self.transport.pause_reading()
            return
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    # The parser.

    def _parse(self) -> None:
        """Parse what is here, until the application or an earlier request holds back the rest."""
        while self._unparsed and not self.flow.read_paused and not self._ended:
            part = self._unparsed[: self._slice]
            self._allowance -= len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as exc:
                part = part[: exc.args[0]]  # no other protocol is spoken here; the client goes on in HTTP/1.1
                if self._in_body:
                    self.parser = body_parser(self.headers, self.on_body, self.on_message_complete)
                    self.cycle.keep_alive = False
            except httptools.HttpParserError as exc:
                cause = exc.__context__
                self._refuse_in_turn(cause.refusal if isinstance(cause, Refused) else MALFORMED)
                return
            self._unparsed = self._unparsed[len(part) :]
            if self._allowance < 0:
                self._refuse_in_turn(LONG_TARGET if self._in_head and len(self.url) > MAX_HEAD // 2 else LONG_HEAD)
                return
        if not self._unparsed:
            self._unparsed = _NOTHING  # the last slice would keep the whole buffer

    @property
    def _slice(self) -> int:
        if self._in_head:
            return min(_SLICE, self._allowance + 1)  # a byte more than allowed shows that it is too long
        return max(_SLICE, min(self._content_left, _BODY_SLICE))

    @property
    def _ended(self) -> bool:
        return self._lingering or self._refusal is not None

    def on_message_begin(self) -> None:
        """Begin a request, whose head must be here in time."""
        super().on_message_begin()
        self._in_head = True
        if not self._owed:
            self._deadline.set(self.limits.request_timeout_s, self._too_late)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are no headers, and nobody reads them."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the call. Raises Refused."""
        if self._allowance < 0:
            raise Refused(LONG_HEAD)
        check_head(self.parser.get_http_version(), self.headers)
        super().on_headers_complete()
        if self._peer_is_proxy:
            forwarded = [value.decode("latin-1") for name, value in self.headers if name == b"x-forwarded-for"]
            if (client := self.bounds.proxies.client(forwarded)) is not None:
                self.scope["client"] = (str(client), 0)
        self._in_head, self._in_body, self._unread = False, True, 0
        self._content_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        self._owed += 1
        self.bounds.forget(self)
        self._deadline.set(self.limits.request_timeout_s, self._too_late)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which buys time for the next."""
        if not self._in_body:
            return
        self._allowance += len(body) * (1 + _FRAMING_PER_BYTE)
        self._deadline.extend(len(body) / _MIN_BODY_RATE, at_most=self.limits.request_timeout_s)
        self._content_left -= len(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > _UNREAD_BODY:
                self._end()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body; from here on the application's deadline holds."""
        if self.parser.should_upgrade() and has_body(self.headers):
            return  # it has not begun
        if not self._in_body:
            return
        super().on_message_complete()
        self._in_body, self._allowance = False, MAX_HEAD
        self._deadline.clear()
        if not self._owed:
            self._rest()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a client may offer other protocols, and none is spoken here."""

    # The answers.

    def on_response_complete(self) -> None:
        """Begin the next call, or wait for one."""
        self.server_state.total_requests += 1
        self._owed -= 1
        if self.transport.is_closing():
            self._deadline.set(self.limits.slow_client_timeout_s, self._abandon)
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        self.flow.resume_reading()
        if self._owed or self._lingering:
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._half_closed:
            self.transport.close()
        else:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request, or for the rest of one that is answered, in the time that it has left."""
        self.bounds.rest(self)
        if not self._in_head and not self._in_body:
            self._deadline.set(self.limits.keep_alive_s, self._close)
        elif self._deadline.at is None:  # a head that began while the call before was under way
            self._deadline.set(self.limits.request_timeout_s, self._too_late)

    def _refuse_in_turn(self, refusal: Refusal) -> None:
        """Refuse what cannot be understood, after the answers to all requests before it."""
        self._refusal, self._unparsed = refusal, _NOTHING
        if self._in_body and self.pipeline:
            self.pipeline.popleft()  # its body is wrong, and its call was not begun
            self._owed, self._in_body = self._owed - 1, False
        elif not self._owed or self._in_body:
            self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close. The answer is left out when another one has begun."""
        self._count(refusal.code)
        if not (self._in_body and self.cycle.response_started):
            known = self.headers if self._in_head or self._in_body else ()
            self.transport.write(refusal.answer(self.bounds.fields(known)))
        self._end()

    def _end(self) -> None:
        """Close once the client has had time to read the answer: a reset on unread bytes would take it away."""
        self._lingering, self._unparsed = True, _NOTHING
        self.bounds.forget(self)
        if self._owed:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.read_paused = False
        self.transport.resume_reading()
        self._deadline.set(_LINGER_S, self.transport.abort)

    def _too_late(self) -> None:
        if self._in_body and self.flow.read_paused:  # the application is slow, not the client
            self._deadline.set(self.limits.request_timeout_s, self._too_late)
        elif self._in_body and not self._owed:  # it is answered
            self._close()
        else:
            self._refuse_in_turn(LATE)

    def _abandon(self) -> None:
        """Abort a connection that does not end, unless its client is watched to take what is left."""
        if self.flow.write_paused:
            self._deadline.set(self.limits.slow_client_timeout_s, self._abandon)
        else:
            self.transport.abort()

    def _stalled(self) -> None:
        self._count("slow_client")
        self.transport.abort()

    def _close(self) -> None:
        self.transport.close()

    def _count(self, code: str) -> None:
        REFUSED_REQUESTS.labels(code).inc()
        _log.debug("request_refused", reason=code, address=self.client[0] if self.client is not None else None)
