"""How frames reach the socket under websockets: at once where that is known to work, else by its public API.

Writing to the transport needs parts of websockets that it does not promise. So a node tries it at its start, over a
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

_log = structlog.get_logger()

Writer: TypeAlias = Callable[[ServerConnection, Sequence[bytes]], bool]
"""Writes whole frames, in this order, without waiting; False, and nothing, when the connection is not open."""

_OPEN = State.OPEN
_TRIAL_S = 2.0
_TRIAL = (b'{"a":1}', b"x" * 125, "ä".encode() * 200, b"x" * 70_000)
"""Payloads with each of the three lengths of a header (RFC 6455 §5.2)."""


def encode(payload: bytes) -> bytes:
    """A whole WebSocket text frame, as a server sends it (RFC 6455 §5)."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


def payload_of(frame: bytes) -> bytes:
    """What ``encode`` was given."""
    length = frame[1]
    return frame[2 + (2 if length == 126 else 8 if length == 127 else 0) :]


def at_once(peer: ServerConnection, frames: Sequence[bytes]) -> bool:
    """One write for all. Every write of data comes here, so the frames of websockets' own (ping, close) stay whole
    between them."""
    if peer.protocol.state is not _OPEN:
        return False
    peer.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
    return True


def one_by_one(peer: ServerConnection, frames: Sequence[bytes]) -> bool:
    """As websockets offers it: each frame is made anew for each socket, and is a write of its own."""
    if peer.state is not _OPEN:
        return False
    for frame in frames:
        broadcast((peer,), payload_of(frame), text=True)
    return True


async def tried(fast: Writer = at_once) -> Writer:
    """``fast`` if all its frames arrive whole between those of websockets, else ``one_by_one``."""
    if await _arrives(fast):
        return fast
    _log.warning("sockets are written to frame by frame: this version of websockets does not let us join them")
    return one_by_one


async def _arrives(writer: Writer) -> bool:
    first, *others = [encode(payload) for payload in _TRIAL]

    async def speak(peer: ServerConnection) -> None:
        writer(peer, [first])
        pong = await peer.ping()
        writer(peer, others)
        await pong

    try:
        async with asyncio.timeout(_TRIAL_S), serve(speak, "127.0.0.1", 0, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None) as peer:
                heard = [await peer.recv() for _ in _TRIAL]
            return heard == [payload.decode() for payload in _TRIAL] and peer.close_code == 1000
    except Exception as exc:  # whatever has changed in it, there is another way
        _log.info("writing at once was tried in vain", error=type(exc).__name__)
        return False
