"""Revocations: tokens that end before their time. PostgreSQL keeps them; Redis only says when to look there.

Every process that checks tokens holds those that are in force in memory. It looks for new ones whenever the channel
says so, and every few seconds all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.identity import Identity

CHANNEL = "revocations"
"""Its messages are empty: look now."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token of a user (``jti``), or all that were issued until ``at``. ``ends``: when none of these tokens would
    hold any more. Times are Unix seconds by the store's clock."""

    number: int
    user_id: str
    jti: str | None
    at: float
    ends: float

    def covers(self, identity: Identity) -> bool:
        """Whether it ends this token."""
        if identity.user_id != self.user_id:
            return False
        return identity.jti == self.jti if self.jti is not None else identity.issued_at <= self.at


class Revocations(Protocol):
    """Those in the store."""

    async def revoke(self, user_id: str, jti: str | None) -> Revocation:
        """Add one, for good. Raises Unavailable."""

    async def since(self, mark: float | None) -> tuple[Sequence[Revocation], float]:
        """Those in force that may have come since ``mark``, all of them for None, and the next mark.

        Each is given at least once, however late it is committed. Raises Unavailable.
        """

    async def note_closed(self, number: int, connections: int) -> None:
        """So many connections were closed for it. Raises Unavailable."""

    async def closed(self, number: int) -> int:
        """How many were closed until now. Raises Unavailable."""


@dataclass(slots=True)
class RevokedTokens:
    """What is revoked, in memory. Pure."""

    _users: dict[str, Revocation] = field(default_factory=dict)
    _tokens: dict[tuple[str, str], Revocation] = field(default_factory=dict)

    def holds(self, identity: Identity) -> bool:
        """Whether this token was revoked."""
        of_user = self._users.get(identity.user_id)
        return (of_user is not None and of_user.covers(identity)) or (identity.user_id, identity.jti) in self._tokens

    def add(self, revocation: Revocation) -> bool:
        """Note it; False when it says nothing new."""
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
        """Drop those whose tokens have all ended."""
        self._users = {key: each for key, each in self._users.items() if each.ends > now}
        self._tokens = {key: each for key, each in self._tokens.items() if each.ends > now}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)
