"""Writers of frames to a socket of websockets: joined writes where they are known to work, else its public API.

Writing to the transport needs parts of websockets that it does not promise. So a node probes them at its start, over a
real connection, before any client comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.protocol import State

from gateway.framing import encode, payload_of

_log = structlog.get_logger()

Writer: TypeAlias = Callable[[ServerConnection, Sequence[bytes]], bool]
"""Writes whole frames, in this order, without waiting; False, and nothing, when the connection is not open."""

_OPEN = State.OPEN
_PROBE_S = 2.0
_PROBE = (b'{"a":1}', b"x" * 125, "ä".encode() * 200, b"x" * 70_000)
"""Payloads with each of the three lengths of a header (RFC 6455 §5.2)."""


def write_joined(peer: ServerConnection, frames: Sequence[bytes]) -> bool:
    """Write all frames at once. Every write of data comes here, so that the frames that websockets writes itself (ping,
    close) stay whole between them."""
    if peer.protocol.state is not _OPEN:
        return False
    peer.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
    return True


def write_each(peer: ServerConnection, frames: Sequence[bytes]) -> bool:
    """Write each frame by the public API: it is made anew for each socket, and is a write of its own."""
    if peer.state is not _OPEN:
        return False
    for frame in frames:
        broadcast((peer,), payload_of(frame), text=True)
    return True


async def probe_writer(fast: Writer = write_joined) -> Writer:
    """Return ``fast`` if all its frames arrive whole between those of websockets, else ``write_each``."""
    if await arrives(fast):
        return fast
    _log.warning("joined_writes_off", reason="this version of websockets does not keep joined frames whole")
    return write_each


async def arrives(writer: Writer) -> bool:
    """Return whether frames arrive whole, and in order, between those that websockets writes itself."""
    first, *others = [encode(payload) for payload in _PROBE]

    async def speak(peer: ServerConnection) -> None:
        writer(peer, [first])
        pong = await peer.ping()
        writer(peer, others)
        await pong

    try:
        async with asyncio.timeout(_PROBE_S), serve(speak, "127.0.0.1", 0, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None) as peer:
                received = [await peer.recv() for _ in _PROBE]
            return received == [payload.decode() for payload in _PROBE] and peer.close_code == 1000
    except Exception as exc:  # whatever has changed in it, there is another way
        _log.info("joined_writes_failed", reason=type(exc).__name__)
        return False
