"""Messages as clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class MemberReceipt:
    """The status of one message with one member. Times are of the watermark that covered it last."""

    user_id: str
    status: str
    delivered_at: str | None
    read_at: str | None


class Messages(Protocol):
    """Pages and single messages. Membership is checked by the caller, but for a single message by the store."""

    async def page(
        self, conversation_id: str, after: int | None, before: int | None, limit: int, hidden_up_to: int = 0
    ) -> Sequence[Message]:
        """Return messages between two seqs (exclusive), ascending: the oldest with ``after``, else the newest.

        None is at or below ``hidden_up_to``. Raises Unavailable.
        """

    async def one(self, message_id: str, user_id: str) -> Message | None:
        """Return the message, for a member of its conversation. Raises Unavailable."""

    async def find(self, message_ids: Sequence[str]) -> Mapping[str, Message]:
        """Return the messages that exist, by id, in one query, whoever may read them. Raises Unavailable."""

    async def receipts(self, message_id: str) -> Sequence[MemberReceipt]:
        """Return the status of the message with each other member, by name. Raises Unavailable."""
