"""Identifiers: UUIDv7 (RFC 9562 §5.7) as canonical text, and the patterns of ids."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
import zlib
from datetime import datetime

USER_ID_PATTERN = r"^[\x21-\x7e]{1,255}\Z"
"""Visible ASCII, as in the `sub` of OpenID Connect: no spaces, since a user id stands between spaces on Redis."""
DEVICE_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}\Z"
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"
USER_ID = re.compile(USER_ID_PATTERN)
_UUID = re.compile(UUID_PATTERN)
DEVICE = re.compile(DEVICE_PATTERN)
NO_DEVICE = "-"
"""The device of those who name none."""

OUTBOX_SHARDS = 16
"""Shards of the outbox; each has one relay as its owner at a time."""


def new_id() -> str:
    """Return a UUIDv7, which sorts by the millisecond it was made in."""
    millis = time.time_ns() // 1_000_000
    value = (millis << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def id_for(owner: str, key: str) -> str:
    """Return the UUID (version 8, RFC 9562 §5.8) that stands for an idempotency key of this user, always the same."""
    value = int.from_bytes(hashlib.sha256(f"{owner}\n{key}".encode()).digest()[:16], "big")
    value = (value & ~(0xF << 76)) | (0x8 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def first_id(at: datetime) -> str:
    """Return the text that sorts before every UUIDv7 made at that time or later."""
    return str(uuid.UUID(int=int(at.timestamp() * 1000) << 80))


def is_uuid(text: str) -> bool:
    """Return whether the text is a UUID in its canonical, lower-case form."""
    return _UUID.match(text) is not None


def outbox_shard(conversation_id: str) -> int:
    """Return the outbox shard of a conversation; the same for all its events."""
    return zlib.crc32(conversation_id.encode()) % OUTBOX_SHARDS
