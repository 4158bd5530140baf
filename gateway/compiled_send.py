"""The compiled loop of ``send()`` (fan.c), where `make setup` could build it, and the proof that it does its work.

One call sends the same bytes to many sockets, without the GIL. What a socket does not take at once is the caller's to
hand to its transport, before anything else is written to that socket.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import structlog

from runtime import native

_log = structlog.get_logger()

SOURCE = Path(__file__).with_name("fan.c")
_SHORT, _LONG = b"\x81\x02{}", bytes(range(256)) * 8192
"""Bytes that every socket takes, and more than any takes at once."""


Sockets: TypeAlias = Sequence[int] | ctypes.Array[ctypes.c_int]
"""Numbers of sockets. An array is passed on as it is."""


class CompiledSend(Protocol):
    """Sends the bytes to these sockets; returns those that did not take all, by position, and how many they took."""

    def __call__(self, sockets: Sockets, data: bytes) -> list[tuple[int, int]]: ...


class LibrarySend:
    """CompiledSend of a library."""

    def __init__(self, library: Path) -> None:
        self._send: Any = ctypes.CDLL(str(library)).millrace_fan
        numbers, sizes = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_size_t)
        self._send.argtypes = [numbers, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, numbers, sizes]
        self._send.restype = ctypes.c_int
        self._resize(64)

    def __call__(self, sockets: Sockets, data: bytes) -> list[tuple[int, int]]:
        count = len(sockets)
        if count > self._room:
            self._resize(2 * count)
        given = sockets if isinstance(sockets, ctypes.Array) else (ctypes.c_int * count)(*sockets)
        short = self._send(given, count, data, len(data), self._numbers, self._taken)
        return [(self._numbers[n], self._taken[n]) for n in range(short)]

    def _resize(self, count: int) -> None:
        self._room, self._numbers, self._taken = count, (ctypes.c_int * count)(), (ctypes.c_size_t * count)()


def open_compiled_send(source: Path = SOURCE, environment: Path | None = None) -> CompiledSend | None:
    """Return the compiled loop; None, and a line in the log, where it was not built or does not do what it must."""
    reason = "not built"
    if (library := native.built(source, environment)) is not None:
        try:
            send = LibrarySend(library)
            if is_proven(send):
                return send
            reason = "it does not send what it is given"
        except (OSError, AttributeError) as exc:
            reason = type(exc).__name__
    _log.info("compiled_send_off", reason=reason)
    return None


def is_proven(send: CompiledSend) -> bool:
    """Return whether it sends whole, in part, nothing to a full socket, and nothing to one whose peer has gone."""
    with ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(3)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
        (ready, its_peer), (narrow, slow_peer), (dead, gone) = pairs
        gone.close()
        sockets = [each.fileno() for each in (ready, narrow, dead)]
        if send(sockets, _SHORT) != [(2, 0)] or its_peer.recv(1024) != _SHORT or slow_peer.recv(1024) != _SHORT:
            return False
        parts = dict(send(sockets[:2], _LONG))
        if set(parts) != {0, 1} or not all(0 < taken < len(_LONG) for taken in parts.values()):
            return False
        if send(sockets[:2], _SHORT) != [(0, 0), (1, 0)]:
            return False
        peers = (its_peer, slow_peer)
        return all(_waiting(peers[n]) == _LONG[:taken] for n, taken in parts.items())


def _waiting(peer: socket.socket) -> bytes:
    """Return the bytes that wait for this end."""
    received = b""
    try:
        while part := peer.recv(1 << 16):
            received += part
    except BlockingIOError:
        pass
    return received
