"""The change log of conversations, and who may read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from schemas.messages import Change


class History(Protocol):
    """The change log of conversations, and who may read it."""

    async def member_since(self, conversation_id: str, user_id: str) -> int | None:
        """The seq at which the user, who is a member now, came; None for others. Raises Unavailable."""

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        """All current members, or so many of them, by name. Raises Unavailable."""

    async def heads(self, conversation_ids: Sequence[str]) -> Mapping[str, int]:
        """The last seq of each conversation that exists, in one query. Raises Unavailable."""

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        """Entries with ``after < seq <= up_to``, ascending and dense, at most ``limit``.

        Raises Unavailable.
        """

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        """The conversation of a message, and its seq there. Raises Unavailable."""

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[str]:
        """The user's conversations with at most so many members. Raises Unavailable."""
