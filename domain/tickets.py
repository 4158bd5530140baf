"""Tickets: secrets of 128 bits, each of which opens one WebSocket, once, within half a minute, in place of a token.

A ticket may stand in a URL, where a token should not. The store keeps only its hash.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from domain.identity import Identity

TTL_S = 30.0
MOST = 20
"""Tickets that a user has at a time; a new one ends the oldest."""
_BYTES = 16
_FORM = re.compile(r"[A-Za-z0-9_-]{22}\Z")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket for a client; valid until ``expires_at`` (Unix seconds)."""

    text: str = field(repr=False)
    expires_at: float


class Tickets(Protocol):
    """Store of tickets."""

    async def issue(self, identity: Identity, origin: str | None) -> Ticket:
        """Issue a ticket to the bearer of a token; only for pages of ``origin``, if given. Raises Unavailable.

        Tickets that have ended are removed, and the user's oldest ones beyond MOST.
        """

    async def redeem(self, text: str, origin: str | None) -> Identity | None:
        """Return the identity to which a ticket was issued; None when it is not valid, or not any more.

        The call uses the ticket up, whatever it returns. Raises Unavailable.
        """


def new_ticket() -> str:
    """Return a new random ticket text."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(text: str) -> bytes | None:
    """Return the hash under which the store keeps a ticket; None for a text that is no ticket."""
    return sha256(text.encode()).digest() if _FORM.match(text) else None
