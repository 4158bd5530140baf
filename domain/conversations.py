"""Conversations and their members: what the store promises about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.errors import Conflict, Forbidden, NotFound
from schemas.messages import ChangeKind, Message

MAX_MEMBERS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member with the watermarks of what reached them."""

    user_id: str
    role: str
    delivered_seq: int
    read_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as a member sees it."""

    conversation_id: str
    title: str | None
    head_seq: int
    members: Sequence[Member]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A line in the list of one's conversations."""

    conversation_id: str
    title: str | None
    head_seq: int
    last_at: datetime
    my_read_seq: int
    unread: int
    last_message: Message | None


class Conversations(Protocol):
    """Conversations in the store. Each change of membership takes one seq and owes Kafka one event."""

    async def create(self, conversation_id: str, title: str | None, owner: str, members: Sequence[str]) -> None:
        """Make it, with these members (the owner is one of them). Raises Conflict, Unavailable."""

    async def add(self, conversation_id: str, user_id: str, by: str) -> None:
        """Make the user a member. Idempotent. Raises NotFound, Forbidden, Conflict (full), Unavailable."""

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        """End a membership. Idempotent. Raises NotFound, Forbidden, Unavailable."""

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        """The conversation, for a member. Raises Unavailable."""

    async def mine(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Summary]:
        """The user's conversations, newest activity first, after the given place. Raises Unavailable."""


def check_change(kind: ChangeKind, role: str | None, *, user_id: str, by: str) -> None:
    """Who may change membership: the owner anything, a member their own leaving. Raises NotFound, Forbidden.

    ``role`` is that of ``by``; None for somebody who is no member and may not know that it exists.
    """
    if role is None:
        raise NotFound("no such conversation, or you are not a member of it")
    leaving = kind is ChangeKind.MEMBER_REMOVED and user_id == by
    if role != "owner" and not leaving:
        raise Forbidden("only the owner may do this; a member may only leave")
    if role == "owner" and leaving:
        raise Conflict("the owner cannot leave the conversation")
