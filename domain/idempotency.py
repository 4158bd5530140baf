"""Keys under which clients repeat a call whose answer they have lost: the port to the store."""

from __future__ import annotations

from typing import Protocol

from domain.errors import IdempotencyMismatch

KEPT_S = 48 * 3600.0
"""Seconds for which a key is remembered, at least."""


class IdempotencyKeys(Protocol):
    """Store of the answers to calls that were made with a key. A call is repeatable by itself: one that finds no answer
    here may be carried out again."""

    async def find(self, user_id: str, key: str, request_hash: bytes) -> int | None:
        """Return the status that the same request of the user got; None when there was none.

        Raises IdempotencyMismatch when the key was used for another request, Unavailable.
        """

    async def keep(self, user_id: str, key: str, request_hash: bytes, status: int) -> None:
        """Remember the answer to a request, unless another has the key by now. Raises Unavailable."""


def key_used() -> IdempotencyMismatch:
    """Return the error for a key that was used for another request."""
    return IdempotencyMismatch("this Idempotency-Key was used for another request; make a new one")


def check_same(request_hash: bytes, known: bytes) -> None:
    """Check that a key is used for the same request again. Raises IdempotencyMismatch."""
    if request_hash != known:
        raise key_used()
