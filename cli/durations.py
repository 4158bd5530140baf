"""Durations as operators write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.clock import wire_time
from stack.errors import OperatorError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """Return ``90s``, ``30m``, ``1h`` or ``7d`` in seconds. Raises ValueError."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS and int(number) > 0):
        raise ValueError(f"{text!r} is not a duration; write for example 30m, 1h or 7d")
    return int(number) * _UNITS[unit]


def option_seconds(option: str, text: str) -> int:
    """Return the value of a command's option in seconds. Raises OperatorError."""
    try:
        return seconds(text)
    except ValueError as exc:
        raise OperatorError(f"{option}: {exc}") from exc


def option_moment(option: str, text: str | None) -> str | None:
    """Return the value of a command's option, a duration before now or a time, in RFC 3339. Raises OperatorError."""
    if text is None:
        return None
    try:
        return wire_time(datetime.now(UTC) - timedelta(seconds=seconds(text)))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise OperatorError(f"{option} must be a duration such as 2h, or a time such as 2026-01-31T12:00:00Z") from exc
    if moment.tzinfo is None:
        raise OperatorError(f"{option} must name its time zone, such as 2026-01-31T12:00:00Z")
    return wire_time(moment.astimezone(UTC))
