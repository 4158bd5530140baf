"""The identity that a token speaks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.errors import Unauthenticated

LEEWAY_S = 30
MAX_TTL_S = 30 * 86_400
LONGEST_S = MAX_TTL_S + 2 * LEEWAY_S
"""After this time no token holds that was issued now."""
MAX_JTI = 255


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a valid token speaks for, and from when until when (Unix seconds)."""

    user_id: str
    expires_at: float
    jti: str
    issued_at: float


Verify: TypeAlias = Callable[[str], Awaitable[Identity]]
"""A token's identity. Raises Unauthenticated; Unavailable when its key cannot be looked up now."""


class Revoked(Protocol):
    """What was revoked."""

    def holds(self, identity: Identity) -> bool:
        """Whether this token was."""


def refused() -> Unauthenticated:
    """The one answer to a token that does not hold."""
    return Unauthenticated("the token is missing, malformed, expired or not for this service; get a new one")
