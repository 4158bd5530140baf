"""Fan-out: the live sockets of a room in a flat list, to which one tight loop sends the same bytes.

The loop does for each socket what ``SendQueue.write`` does for one with nothing pending: it asks how much waits and
whether the connection is open, hands the bytes over, and counts them. A socket for which that does not hold is left to
its queue, frame by frame, with the same bounds.

    nothing waits, a plain socket   sent by the compiled loop, where there is one, without the transport
    little waits                    written to the transport
    else                            left to the queue
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.protocol import Protocol, State

from gateway.compiled_send import CompiledSend, open_compiled_send
from gateway.frame_writer import Writer, arrives, probe_writer, write_joined
from gateway.send_queue import CONTENT_MAX, SendQueue, WriteBatcher

_log = structlog.get_logger()

_OPEN = State.OPEN
_FEW = 8
"""Sockets for which a call of the compiled loop is not worth its own cost."""


class _Row(NamedTuple):
    """A send queue, with what the loop calls of it."""

    queue: SendQueue
    waiting: Callable[[], int]
    protocol: Protocol
    write: Callable[[bytes], object]
    is_closing: Callable[[], bool]


class Flat:
    """Send queues in a flat list; made anew for each change of them.

    Nothing may be pending in a queue while it is sent to: ``idle`` says so.
    """

    __slots__ = ("_compiled", "_direct", "_others", "_queues", "_sockets")

    def __init__(self, queues: Sequence[SendQueue], compiled: CompiledSend | None = None, few: int = _FEW) -> None:
        self._queues = queues
        self._compiled = compiled if len(queues) >= few else None
        self._direct: list[_Row] = []
        self._others: list[_Row] = []
        numbers: list[int] = []
        for queue in queues:
            number = _plain_socket(queue.socket.transport) if self._compiled is not None else None
            (self._others if number is None else self._direct).append(_row(queue))
            if number is not None:
                numbers.append(number)
        self._sockets = (ctypes.c_int * len(numbers))(*numbers)

    @property
    def idle(self) -> bool:
        """True while no frame is pending in any of the queues."""
        return not any(queue.pending for queue in self._queues)

    def send(self, data: bytes) -> list[SendQueue]:
        """Send whole frames to all; return the queues that were not sent them."""
        if self._compiled is None or not self._direct:
            return [*_write(self._direct, data), *_write(self._others, data)]
        rows, sockets, busy = self._direct, self._sockets, list[_Row]()
        # Bytes in the transport come first; one that was aborted may have dropped the rest of a frame.
        found = [
            n
            for n, (_, waiting, protocol, _, is_closing) in enumerate(rows)
            if waiting() or protocol.state is not _OPEN or is_closing()
        ]
        if found:
            busy, left_out = [rows[n] for n in found], set(found)
            kept = [n for n in range(len(rows)) if n not in left_out]
            rows, sockets = [rows[n] for n in kept], (ctypes.c_int * len(kept))(*[sockets[n] for n in kept])
        for n, taken in self._compiled(sockets, data):
            row, rest = rows[n], data[taken:]
            row.write(rest)
            row.queue.handed += len(rest)  # bytes that a socket takes at once neither wait nor count
        return [*_write(busy, data), *_write(self._others, data)]


def _write(rows: Iterable[_Row], data: bytes) -> list[SendQueue]:
    """Write to the transports; return the queues of which too much waits, or whose connection is not open."""
    left, size = list[SendQueue](), len(data)
    limit = CONTENT_MAX - size
    for queue, waiting, protocol, write, _ in rows:
        if waiting() <= limit and protocol.state is _OPEN:
            write(data)
            queue.handed += size
        else:
            left.append(queue)
    return left


def _row(queue: SendQueue) -> _Row:
    transport = queue.socket.transport
    return _Row(queue, transport.get_write_buffer_size, queue.socket.protocol, transport.write, transport.is_closing)


def _plain_socket(transport: Any) -> int | None:
    """Return the number of a transport's socket, if the bytes of the transport are those of the socket.

    It stays that of this socket for as long as the connection is open: transports close theirs after
    ``connection_lost``, which ends that state.
    """
    if any(transport.get_extra_info(name) is not None for name in ("sslcontext", "ssl_object")):
        return None
    plain = transport.get_extra_info("socket")
    number = plain.fileno() if plain is not None else -1
    return number if number >= 0 else None


async def choose(batcher: WriteBatcher, *, compiled: bool) -> None:
    """Let the batcher use the quickest way to write that is known to work here; ``compiled`` admits that of C."""
    batcher.writer = await probe_writer()
    if batcher.writer is not write_joined:
        return
    send = open_compiled_send() if compiled else None
    if send is not None and not await arrives(_writer_of(send)):
        _log.info("compiled_send_off", reason="it does not keep frames whole between those of websockets")
        send = None
    batcher.flatten = flattener(send)


def flattener(compiled: CompiledSend | None) -> Callable[[Sequence[Any]], Flat]:
    """Return a function that makes a flat list of send queues."""
    return lambda queues: Flat(queues, compiled)


def _writer_of(send: CompiledSend) -> Writer:
    def write(peer: ServerConnection, frames: Sequence[bytes]) -> bool:
        return not Flat([SendQueue(peer, WriteBatcher())], send, few=1).send(b"".join(frames))

    return write
