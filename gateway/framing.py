"""WebSocket text frames, as a server sends them (RFC 6455 §5)."""

from __future__ import annotations


def encode(payload: bytes) -> bytes:
    """Return a whole text frame around the payload."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


def payload_of(frame: bytes) -> bytes:
    """Return the payload that ``encode`` was given."""
    length = frame[1]
    return frame[2 + (2 if length == 126 else 8 if length == 127 else 0) :]
