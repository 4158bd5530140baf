"""Transport that sends what is written in one turn of the event loop together."""

from __future__ import annotations

import asyncio
from typing import Any

_SMALL = 4096
"""Bytes of a write that waits for another one: more than the head of an answer has."""


class JoinedWrites(asyncio.Transport):
    """A connection's transport, to which a small write goes with the next one, at the latest in the next turn.

    uvicorn writes the head of an answer and its body one after the other, and uvloop sends each write at once: two
    system calls, two packets, and often a client that is woken for a head without its body.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held: bytes | None = None

    def write(self, data: Any) -> None:
        """Send what is held and this; hold this when it is small and nothing is held."""
        if self._held is not None:
            data, self._held = b"".join((self._held, data)), None
        elif 0 < len(data) <= _SMALL:
            self._held = bytes(data)
            asyncio.get_running_loop().call_soon(self._send)
            return
        self._transport.write(data)

    def _send(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)

    def write_eof(self) -> None:
        """End this side, after what is held."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Close, after what is held."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost, as is what waits to be sent."""
        self._held = None
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer has not taken yet."""
        return self._transport.get_write_buffer_size() + len(self._held or b"")

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
