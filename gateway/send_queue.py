"""Writing to sockets: a frame is encoded once, shared by all who get it, and joined with its neighbours.

Per delivery, one send() is what a server pays most for. So all frames of one turn of the event loop go out in one
write (writer.py). The first is handed over at once: uvloop itself writes only when the turn ends, and most turns have
no second. The others are joined; all of them, where it is known that many come together.

What waits for a socket that reads slowly is bounded, by what a frame is worth:

    LITTLE   beyond it typing and presence are dropped
    LIMIT    beyond it content is not taken (the room catches the socket up from the store) and news is held: of
             each subject the latest
    ANSWERS  beyond it not even answers are taken: the client asks and does not read
    HIGH     beyond it the connection is cut where it is read (only answers to its own pings are left)
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from gateway.conflation import Held
from gateway.frame_writer import Writer, at_once, encode

__all__ = ["ANSWERS", "CLOSE_S", "HIGH", "LIMIT", "LITTLE", "LOW", "STALLED_S", "Outlet", "Wire", "encode"]

LOW = 64 * 1024
"""It is caught up when so few bytes wait."""
LITTLE = 256 * 1024
LIMIT = 768 * 1024
"""Bytes that may wait for one socket; beyond that it is lagging."""
ANSWERS = 896 * 1024
HIGH = 1024 * 1024
STALLED_S = 20.0
CLOSE_S = 5.0
"""So long a close may take; then the connection is cut."""
_LOOK_S = 2.0
"""What passed between two looks counts for at most so much: a node that was frozen blames nobody."""
_ITEMS = 256
"""Frames of one turn that are joined; more go out earlier."""


@dataclass(slots=True)
class Outlet:
    """The wires with something to write in this turn of the loop, and how it is written."""

    writer: Writer = at_once
    turn: object | None = None
    joining: bool = False
    _dirty: list[Wire] = field(default_factory=list)

    def begin(self) -> object:
        """A turn in which something is written."""
        self.turn = object()
        asyncio.get_running_loop().call_soon(self._end)
        return self.turn

    def join(self) -> None:
        """Much is to be written in this turn: nothing is handed over before it ends."""
        if self.turn is None:
            self.begin()
        self.joining = True

    def note(self, wire: Wire) -> None:
        """This wire has more in this turn."""
        self._dirty.append(wire)

    def _end(self) -> None:
        self.turn, self.joining = None, False
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            wire.flush()


class Wire:
    """One socket, written to without ever waiting. ``lagging_s``: how long more than LOW may wait; 0 is for ever."""

    __slots__ = (
        "_behind",
        "_buffered",
        "_handed",
        "_held",
        "_idle",
        "_outlet",
        "_pending",
        "_size",
        "_taken",
        "_tended_at",
        "_turn",
        "lagging_s",
        "socket",
    )

    def __init__(self, socket: ServerConnection, outlet: Outlet, lagging_s: float = 0.0) -> None:
        self.socket = socket
        self._buffered = socket.transport.get_write_buffer_size
        self.lagging_s = lagging_s
        self._outlet = outlet
        self._pending: list[bytes] = []
        self._size = 0
        self._held = Held()
        self._turn: object | None = None
        self._handed = 0
        self._taken = -1
        self._tended_at: float | None = None
        self._idle = 0.0
        self._behind = 0.0

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._size + self._buffered()

    @property
    def open(self) -> bool:
        """Whether data may still be written."""
        return self.socket.protocol.state is State.OPEN

    def write(self, frame: bytes, limit: int = LIMIT) -> bool:
        """Take an encoded frame; False when too much waits already, and the frame was not taken."""
        if self._size + self._buffered() > limit:
            return False
        turn = self._outlet.turn or self._outlet.begin()
        if self._turn is not turn:
            self._turn = turn
            if not self._outlet.joining:
                if self._outlet.writer(self.socket, (frame,)):
                    self._handed += len(frame)
                return True
        if not self._pending:
            self._outlet.note(self)
        self._pending.append(frame)
        self._size += len(frame)
        if len(self._pending) >= _ITEMS:
            self.flush()
        return True

    def spare(self, frame: bytes) -> None:
        """Take an encoded frame that the client can do without, if little waits."""
        self.write(frame, LITTLE)

    def news(self, payload: bytes, encoded: bytes) -> None:
        """Take a frame that replaces the one before it on the same subject. What does not fit is held, and written
        by ``tend``; a socket for which too much is held is cut."""
        if not self._held and self.write(encoded):
            return
        if not self._held.put(payload):
            self.cut()

    def cut(self) -> None:
        """End the connection without a word."""
        self.socket.transport.abort()

    def flush(self) -> None:
        """Hand over what was taken."""
        pending, size = self._pending, self._size
        self._pending, self._size = [], 0
        if pending and self._outlet.writer(self.socket, pending):
            self._handed += size

    async def room(self) -> None:
        """Return once little waits; of a connection that is closing, once it has ended."""
        self.flush()
        with suppress(OSError):  # ended
            await self.socket.drain()
        if not self.open:
            await self.socket.wait_closed()

    def tend(self, now: float) -> bool:
        """Write what was held, if there is room; False when the peer is too slow to be kept. Asked every second."""
        passed = 0.0 if self._tended_at is None else min(now - self._tended_at, _LOOK_S)
        self._tended_at = now
        if self.waiting <= LOW:
            for payload in self._held.take():
                self.write(encode(payload), HIGH)
        stalled, lags = self._stalled(passed), self._lags(passed)
        return not (stalled or lags)

    def _stalled(self, passed: float) -> bool:
        """Whether the peer has taken nothing for STALLED_S while something waited."""
        buffered = self._buffered()
        taken = self._handed - buffered
        moved = buffered == 0 or taken > self._taken
        self._idle = 0.0 if moved else self._idle + passed
        if moved:
            self._taken = taken
        return self._idle > STALLED_S

    def _lags(self, passed: float) -> bool:
        """Whether more than LOW has waited for ``lagging_s``: the peer may move, but never arrives."""
        self._behind = 0.0 if self.waiting <= LOW else self._behind + passed
        return 0 < self.lagging_s < self._behind
