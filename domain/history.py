"""Port to the change log of conversations, for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.messages import Change


class History(Protocol):
    """Change log of conversations, and their members, who may read it."""

    async def member_since(self, conversation_id: str, user_id: str) -> int | None:
        """Return the seq at which a current member was added; None for others. Raises Unavailable."""

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        """Return the current members, the first ``limit`` of them by name. Raises Unavailable."""

    async def heads(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the last seq of each conversation that exists, by one query. Raises Unavailable."""

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        """Return the entries with ``after < seq <= up_to``, ascending and dense, at most ``limit``.

        Raises Unavailable.
        """

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        """Return the conversation and the seq of a message; None when there is none. Raises Unavailable."""

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[str]:
        """Return the user's conversations with at most ``max_members`` members. Raises Unavailable."""
