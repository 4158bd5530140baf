"""Send queues of clients: bounded, with back-pressure; a frame is encoded once and joined with its neighbours.

Per delivery, one send() is what a server pays most for. So all frames of one turn of the event loop go out in one
write (``frame_writer``). The first is handed over at once, since most turns have no second. The others are joined; all
of them, where it is known that many come together. Frames of a room are joined once for all its sockets (``fan_out``):
the room owes them until the turn ends, or until something else is written to one of its sockets, which comes behind.

The bytes that may wait for a socket that reads slowly depend on the worth of the frame:

    EPHEMERAL_MAX  beyond it typing and presence are dropped
    CONTENT_MAX    beyond it content is not taken (the room catches the socket up from the store), and of hints and
                   watermarks only the latest of each subject waits
    REPLY_MAX      beyond it not even replies are taken: the client asks and does not read
    HARD_MAX       beyond it the connection is aborted where it is read (only replies to its own pings are left)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from structlog.typing import FilteringBoundLogger
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from gateway.channels import Envelope
from gateway.conflation import ConflatingBuffer
from gateway.frame_writer import Writer, write_joined
from gateway.framing import encode

RESUME_BELOW = 64 * 1024
"""A lagging socket is caught up when so few bytes wait."""
EPHEMERAL_MAX = 256 * 1024
CONTENT_MAX = 768 * 1024
"""Bytes that may wait for one socket; beyond that it is lagging."""
REPLY_MAX = 896 * 1024
HARD_MAX = 1024 * 1024
STALLED_S = 20.0
CLOSE_S = 5.0
"""So long a close may take; then the connection is aborted."""
_CHECK_MAX_S = 2.0
"""Time between two checks counts for at most so much: a node that was frozen blames nobody."""
ITEMS = 256
"""Frames of one turn that are joined; more go out earlier."""
_NONE: Mapping[str, Any] = {}


class Owing(Protocol):
    """A room that owes its sockets frames of this turn."""

    conversation_id: str

    def flush(self) -> None:
        """Send them."""

    def owes(self, subscription: Any) -> bool:
        """Return whether it owes them to the socket of this subscription."""

    def spread(self) -> None:
        """Leave them to the queues of the sockets, in front of what is written to these next."""


class FlatList(Protocol):
    """Send queues in a flat list (``fan_out``)."""

    @property
    def idle(self) -> bool:
        """True while no frame is pending in any of them."""

    def send(self, data: bytes) -> Sequence[object]:
        """Send whole frames to all; return the queues that were not sent them."""


@dataclass(slots=True)
class WriteBatcher:
    """The send queues and rooms with something to write in this turn of the loop, and how it is written.

    ``flatten`` makes a flat list of queues; without it each frame of a room goes to each queue.
    """

    writer: Writer = write_joined
    flatten: Callable[[Sequence[Any]], FlatList] | None = None
    turn: object | None = None
    joining: bool = False
    owing: list[Owing] = field(default_factory=list)
    dirty: list[SendQueue] = field(default_factory=list)

    def begin(self) -> object:
        """Start a turn in which something is written."""
        self.turn = object()
        asyncio.get_running_loop().call_soon(self._end)
        return self.turn

    def join(self) -> None:
        """Hand nothing over before this turn ends: much is to be written in it."""
        if self.turn is None:
            self.begin()
        self.joining = True

    def settle(self, subscriptions: Mapping[str, Any]) -> None:
        """Leave to the queues what rooms owe a socket with these: something else is to be written to it."""
        for room in tuple(self.owing):
            subscription = subscriptions.get(room.conversation_id)
            if subscription is not None and room.owes(subscription):
                self.owing.remove(room)
                room.spread()

    def _end(self) -> None:
        owing, self.owing = self.owing, []
        try:
            for room in owing:
                room.flush()
        finally:
            self.turn, self.joining = None, False
            dirty, self.dirty = self.dirty, []
            for queue in dirty:
                queue.hand_over()


class SendQueue:
    """The send queue of one client, written to without ever waiting.

    ``slow_client_timeout_s``: how long more than RESUME_BELOW may wait; 0 is for ever. ``log`` is bound to the ids of
    the connection. ``subscriptions``: those of the socket, by conversation id. ``handed``: bytes that its transport was
    handed. ``pending``: frames of this turn that it was not.
    """

    __slots__ = (
        "_batcher",
        "_behind",
        "_buffered",
        "_checked_at",
        "_held",
        "_idle",
        "_size",
        "_taken",
        "_turn",
        "handed",
        "log",
        "pending",
        "slow_client_timeout_s",
        "socket",
        "subscriptions",
    )

    def __init__(
        self,
        socket: ServerConnection,
        batcher: WriteBatcher,
        slow_client_timeout_s: float = 0.0,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self.socket = socket
        self._buffered = socket.transport.get_write_buffer_size
        self.slow_client_timeout_s = slow_client_timeout_s
        self.log: FilteringBoundLogger = log or structlog.get_logger()
        self._batcher = batcher
        self.subscriptions: Mapping[str, Any] = _NONE
        self.pending: list[bytes] = []
        self._size = 0
        self._held = ConflatingBuffer()
        self._turn: object | None = None
        self.handed = 0
        self._taken = -1
        self._checked_at: float | None = None
        self._idle = 0.0
        self._behind = 0.0

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._size + self._buffered()

    @property
    def open(self) -> bool:
        """True while data may be written."""
        return self.socket.protocol.state is State.OPEN

    def write(self, frame: bytes, limit: int = CONTENT_MAX) -> bool:
        """Take an encoded frame; False when too much waits already, and the frame was not taken."""
        if self._batcher.owing:
            self._batcher.settle(self.subscriptions)
        if self._size + self._buffered() > limit:
            return False
        turn = self._batcher.turn or self._batcher.begin()
        if self._turn is not turn:
            self._turn = turn
            if not self._batcher.joining:
                if self._batcher.writer(self.socket, (frame,)):
                    self.handed += len(frame)
                return True
        if not self.pending:
            self._batcher.dirty.append(self)
        self.pending.append(frame)
        self._size += len(frame)
        if len(self.pending) >= ITEMS:
            self.hand_over()
        return True

    def send_ephemeral(self, frame: bytes) -> None:
        """Take an encoded frame that the client can do without, if little waits."""
        self.write(frame, EPHEMERAL_MAX)

    def send_latest(self, envelope: Envelope, encoded: bytes) -> None:
        """Take a frame that replaces the one before it on the same subject.

        A frame that does not fit is held until ``check_slow`` finds room; a client for which too much is held is
        aborted.
        """
        if not self._held and self.write(encoded):
            return
        if not self._held.put(envelope):
            self.abort("send_buffer_full")

    def abort(self, reason: str) -> None:
        """End the connection without a close frame, and log why."""
        if not self.socket.transport.is_closing():
            self.log.info("connection_aborted", reason=reason, buffered_bytes=self.waiting)
        self.socket.transport.abort()

    def flush(self) -> None:
        """Hand over everything that was sent to this socket, also by its rooms."""
        if self._batcher.owing:
            self._batcher.settle(self.subscriptions)
        self.hand_over()

    def hand_over(self) -> None:
        """Hand over the frames that are pending."""
        pending, size = self.pending, self._size
        self.pending, self._size = [], 0
        if pending and self._batcher.writer(self.socket, pending):
            self.handed += size

    async def drained(self) -> None:
        """Return once little waits; of a connection that is closing, once it has ended."""
        self.hand_over()
        with suppress(OSError):  # ended
            await self.socket.drain()
        if not self.open:
            await self.socket.wait_closed()

    def check_slow(self, now: float) -> bool:
        """Write held frames if there is room; return False when the peer is too slow to be kept.

        The node calls this every second (``now``: seconds of a clock that never goes back).
        """
        passed = 0.0 if self._checked_at is None else min(now - self._checked_at, _CHECK_MAX_S)
        self._checked_at = now
        if not (self._held or self._size or self._buffered()):
            self._idle, self._behind, self._taken = 0.0, 0.0, self.handed
            return True
        if self.waiting <= RESUME_BELOW:
            for payload in self._held.take():
                self.write(encode(payload), HARD_MAX)
        stalled, lags = self._stalled(passed), self._lags(passed)
        return not (stalled or lags)

    def _stalled(self, passed: float) -> bool:
        """Return whether the peer has taken nothing for STALLED_S while something waited."""
        buffered = self._buffered()
        taken = self.handed - buffered
        moved = buffered == 0 or taken > self._taken
        self._idle = 0.0 if moved else self._idle + passed
        if moved:
            self._taken = taken
        return self._idle > STALLED_S

    def _lags(self, passed: float) -> bool:
        """Return whether more than RESUME_BELOW has waited for too long: the peer may move, but never arrives."""
        self._behind = 0.0 if self.waiting <= RESUME_BELOW else self._behind + passed
        return 0 < self.slow_client_timeout_s < self._behind
