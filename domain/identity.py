"""Identity of the bearer of a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.errors import Unauthenticated

LEEWAY_S = 30
MAX_TTL_S = 30 * 86_400
LONGEST_S = MAX_TTL_S + 2 * LEEWAY_S
"""Longest validity in seconds: no token that is issued now is valid after this time."""
MAX_JTI = 255


@dataclass(frozen=True, slots=True)
class Identity:
    """Bearer of a valid token, and the token's id and times (Unix seconds)."""

    user_id: str
    expires_at: float
    jti: str
    issued_at: float


Verify: TypeAlias = Callable[[str], Awaitable[Identity]]
"""Verifies a token; returns its identity. Raises Unauthenticated; Unavailable when its key cannot be looked up."""


class Revoked(Protocol):
    """Set of revoked tokens."""

    def holds(self, identity: Identity) -> bool:
        """Return True when this token is revoked."""


def refused() -> Unauthenticated:
    """Return the error for a token that is not valid, the same for all causes."""
    return Unauthenticated("the token is missing, malformed, expired or not for this service; get a new one")
