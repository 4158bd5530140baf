"""Durations as operators write them."""

from __future__ import annotations

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """``90s``, ``30m``, ``1h``, ``7d`` in seconds. Raises ValueError."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS and int(number) > 0):
        raise ValueError(f"{text!r} is no duration; write for example 30m, 1h or 7d")
    return int(number) * _UNITS[unit]
