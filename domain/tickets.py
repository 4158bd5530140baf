"""Tickets: a secret of 128 bits that opens one WebSocket, once, within half a minute, in place of a token.

They may appear where a token should not, in a URL. The store keeps only their hash.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from domain.identity import Identity

TTL_S = 30.0
_BYTES = 16
_FORM = re.compile(r"[A-Za-z0-9_-]{22}\Z")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a client gets, and until when it holds (Unix seconds)."""

    text: str = field(repr=False)
    expires_at: float


class Tickets(Protocol):
    """Tickets in the store."""

    async def issue(self, identity: Identity, origin: str | None) -> Ticket:
        """A ticket for the bearer of this token; only for pages of ``origin``, if given. Raises Unavailable."""

    async def redeem(self, text: str, origin: str | None) -> Identity | None:
        """The identity of the token that asked for it, the first time; None for one that does not hold.

        Asking uses it up, whatever the answer. Raises Unavailable.
        """


def new_ticket() -> str:
    """A new one."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(text: str) -> bytes | None:
    """What the store knows it by; None for what is no ticket."""
    return sha256(text.encode()).digest() if _FORM.match(text) else None
