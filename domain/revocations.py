"""Revocations of tokens. PostgreSQL keeps them; a message on Redis only says that there is a new one.

Every process that checks tokens keeps the current revocations in memory. It reads new ones from the store at each
message on the channel, and every few seconds without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.identity import Identity

CHANNEL = "revocations"
"""Channel of the messages; they are empty."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Revocation of one token of a user (``jti``), or of all that were issued until ``at``.

    After ``ends`` all of these tokens would have expired. Times are Unix seconds by the store's clock.
    """

    number: int
    user_id: str
    jti: str | None
    at: float
    ends: float

    def covers(self, identity: Identity) -> bool:
        """Return True when it revokes this token."""
        if identity.user_id != self.user_id:
            return False
        return identity.jti == self.jti if self.jti is not None else identity.issued_at <= self.at


class Revocations(Protocol):
    """Store of revocations."""

    async def revoke(self, user_id: str, jti: str | None) -> Revocation:
        """Store a revocation, and return it. Raises Unavailable."""

    async def since(self, mark: float | None) -> tuple[Sequence[Revocation], float]:
        """Return current revocations that may have come since ``mark`` (None: all of them), and the next mark.

        Each one is returned at least once, however late it is committed. Raises Unavailable.
        """

    async def note_closed(self, number: int, connections: int) -> None:
        """Add to the number of connections that were closed for a revocation. Raises Unavailable."""

    async def closed(self, number: int) -> int:
        """Return how many connections were closed for a revocation until now. Raises Unavailable."""


@dataclass(slots=True)
class RevokedTokens:
    """Current revocations in memory. Pure."""

    _users: dict[str, Revocation] = field(default_factory=dict)
    _tokens: dict[tuple[str, str], Revocation] = field(default_factory=dict)

    def holds(self, identity: Identity) -> bool:
        """Return True when this token is revoked."""
        of_user = self._users.get(identity.user_id)
        return (of_user is not None and of_user.covers(identity)) or (identity.user_id, identity.jti) in self._tokens

    def add(self, revocation: Revocation) -> bool:
        """Add a revocation; return False when it revokes nothing more."""
        if revocation.jti is not None:
            key = (revocation.user_id, revocation.jti)
            is_new = key not in self._tokens
            self._tokens[key] = revocation
            return is_new
        known = self._users.get(revocation.user_id)
        if known is not None and known.at >= revocation.at:
            return False
        self._users[revocation.user_id] = revocation
        return True

    def forget(self, now: float) -> None:
        """Remove the revocations whose tokens have all expired."""
        self._users = {key: each for key, each in self._users.items() if each.ends > now}
        self._tokens = {key: each for key, each in self._tokens.items() if each.ends > now}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)
