"""The search index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found. ``highlight`` is HTML: escaped, with ``<mark>``."""

    message: Message
    highlight: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Words to search for, and bounds of the search: ``after`` inclusive, ``before`` exclusive."""

    text: str
    conversation_id: str | None = None
    sender_id: str | None = None
    after: datetime | None = None
    before: datetime | None = None


class Index(Protocol):
    """Search index in the store."""

    async def put(self, messages: Sequence[Message]) -> None:
        """Add the messages. Idempotent: a row is keyed by message, and becomes as given. Raises Unavailable."""


class Search(Protocol):
    """The index, read for members."""

    async def search(self, user_id: str, query: Query, *, limit: int, offset: int) -> Sequence[Hit]:
        """Return the best hits in the user's conversations. Raises Unavailable."""
