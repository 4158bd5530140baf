"""Identifiers that a client makes: UUIDv7 (RFC 9562 §5.7) as canonical text."""

from __future__ import annotations

import os
import time
import uuid


def new_id() -> str:
    """Return a UUIDv7, which sorts by the millisecond it was made in."""
    millis = time.time_ns() // 1_000_000
    value = (millis << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))
