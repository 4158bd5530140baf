"""Writing to sockets: a frame is encoded once, shared by all who get it, and joined with its neighbours.

Per delivery, one send() is what a server pays most for. So all frames of one turn of the event loop go out in one
write. They go straight to the transport: every write of data passes here, so the frames of websockets' own
(ping, close) stay whole between them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection
from websockets.frames import OP_TEXT, Frame
from websockets.protocol import State

LIMIT = 1024 * 1024
"""Bytes that may wait for one socket; beyond that it is lagging."""
LOW = 64 * 1024
"""It is caught up when so few bytes wait."""
STALLED_S = 20.0


def encode(payload: bytes) -> bytes:
    """A whole WebSocket text frame, as a server sends it (RFC 6455 §5)."""
    return Frame(OP_TEXT, payload).serialize(mask=False)


@dataclass(slots=True)
class Outlet:
    """The wires with something to write in this turn of the loop."""

    _dirty: list[Wire] = field(default_factory=list)

    def note(self, wire: Wire) -> None:
        """This wire has something."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(wire)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            wire.flush()


class Wire:
    """One socket, written to without ever waiting."""

    __slots__ = ("_least", "_moved_at", "_outlet", "_pending", "_size", "socket")

    def __init__(self, socket: ServerConnection, outlet: Outlet) -> None:
        self.socket = socket
        self._outlet = outlet
        self._pending: list[bytes] = []
        self._size = 0
        self._least = 0
        self._moved_at: float | None = None

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._size + self.socket.transport.get_write_buffer_size()

    @property
    def open(self) -> bool:
        """Whether data may still be written."""
        return self.socket.protocol.state is State.OPEN

    def write(self, frame: bytes) -> bool:
        """Take an encoded frame; False when too much waits already, and the frame was not taken."""
        if self._size + self.socket.transport.get_write_buffer_size() > LIMIT:
            return False
        if not self._pending:
            self._outlet.note(self)
        self._pending.append(frame)
        self._size += len(frame)
        return True

    def flush(self) -> None:
        """Hand over what was taken."""
        pending, self._pending, self._size = self._pending, [], 0
        if pending and self.open:
            self.socket.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def stalled(self, now: float) -> bool:
        """Whether the peer has taken nothing for STALLED_S while something waited. Asked every second or so."""
        waiting = self.waiting
        if waiting == 0 or waiting < self._least or self._moved_at is None:
            self._moved_at = now
            self._least = waiting
            return False
        self._least = min(self._least, waiting)
        return now - self._moved_at > STALLED_S
