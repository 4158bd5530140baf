"""The search index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.messages import Message


class Index(Protocol):
    """The index in the store."""

    async def put(self, messages: Sequence[Message]) -> None:
        """Make them findable. A row is keyed by message and versioned by seq: idempotent. Raises Unavailable."""
