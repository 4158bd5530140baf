"""Writing to sockets: a frame is encoded once, shared by all who get it, and joined with its neighbours.

Per delivery, one send() is what a server pays most for. So all frames of one turn of the event loop go out in one
write. They go straight to the transport: every write of data passes here, so the frames of websockets' own
(ping, close) stay whole between them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

LIMIT = 1024 * 1024
"""Bytes that may wait for one socket; beyond that it is lagging."""
LOW = 64 * 1024
"""It is caught up when so few bytes wait."""
STALLED_S = 20.0


def encode(payload: bytes) -> bytes:
    """A whole WebSocket text frame, as a server sends it (RFC 6455 §5)."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


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

    __slots__ = ("_handed", "_moved_at", "_outlet", "_pending", "_size", "_taken", "socket")

    def __init__(self, socket: ServerConnection, outlet: Outlet) -> None:
        self.socket = socket
        self._outlet = outlet
        self._pending: list[bytes] = []
        self._size = 0
        self._handed = 0
        self._taken = -1
        self._moved_at = 0.0

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
            self._handed += sum(map(len, pending))
            self.socket.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def stalled(self, now: float) -> bool:
        """Whether the peer has taken nothing for STALLED_S while something waited. Asked every second or so."""
        buffered = self.socket.transport.get_write_buffer_size()
        taken = self._handed - buffered
        if buffered == 0 or taken > self._taken:
            self._taken, self._moved_at = taken, now
        return now - self._moved_at > STALLED_S
