"""Times on the wire: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def wire_time(at: datetime) -> str:
    """``2026-11-24T15:00:00.123Z``."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The current time as wire text."""
    return wire_time(datetime.now(UTC))


def wire_seconds(seconds: float) -> str:
    """Unix seconds as wire text."""
    return wire_time(datetime.fromtimestamp(seconds, UTC))
