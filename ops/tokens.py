"""Tokens of a stack: whether it has its own, and how long they hold, as operators write it."""

from __future__ import annotations

import os

from ops.errors import OperatorError
from ops.running import RunningStack

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """``90s``, ``30m``, ``1h``, ``7d`` in seconds. Raises ValueError."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS and int(number) > 0):
        raise ValueError(f"{text!r} is no duration; write for example 30m, 1h or 7d")
    return int(number) * _UNITS[unit]


def are_ours() -> bool:
    """Whether the stack's own secret signs them, and no issuer with keys of its own."""
    return os.environ.get("MILLRACE_AUTH__ALGORITHM", "HS256") == "HS256"


def token_for(stack: RunningStack, user: str, *, ttl_s: int) -> str:
    """Return a token for the stack that runs. Raises OperatorError when it is not ours to give, or USER is no user."""
    from runtime.auth import issue

    if not are_ours():
        raise OperatorError("tokens come from the issuer of MILLRACE_AUTH__JWKS_URL")
    try:
        return issue(stack.jwt_secret, user, ttl_s=ttl_s)
    except ValueError as exc:
        raise OperatorError(str(exc)) from exc
