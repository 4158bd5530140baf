"""The search index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.messages import Message


class Index(Protocol):
    """Search index in the store."""

    async def put(self, messages: Sequence[Message]) -> None:
        """Add the messages. Idempotent: a row is keyed by message and versioned by seq. Raises Unavailable."""
