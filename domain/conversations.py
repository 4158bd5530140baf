"""Conversations and their members: the port to the store, and the rule who may change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.errors import Conflict, Forbidden, NotFound, Unavailable
from domain.policy import Standing
from schemas.messages import ChangeKind, Message

NO_CONVERSATION = "no such conversation, or you are not a member of it"


class IdTaken(Conflict):
    """The id is taken.

    The text is the same for everybody but the owner who repeats the creation: it tells nothing about the conversation.
    """

    def __init__(self) -> None:
        super().__init__("this conversationId is taken; use another, or leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member with their watermarks."""

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
    invited: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A conversation in the list of a user."""

    conversation_id: str
    title: str | None
    head_seq: int
    last_at: datetime
    my_read_seq: int
    """Up to here nothing is unread: the user has read it, has answered it, or joined after it."""
    unread: int
    """Messages after ``my_read_seq``. All are by others, since who sends a message has read what came before."""
    last_message: Message | None


@dataclass(frozen=True, slots=True)
class Unread:
    """Unread messages of a user, and the conversations that have any."""

    messages: int
    conversations: int


class Conversations(Protocol):
    """Store of conversations. Each change of membership takes one seq and writes one outbox row."""

    async def create(
        self,
        conversation_id: str,
        title: str | None,
        owner: str,
        members: Sequence[str],
        *,
        invited: Sequence[str] = (),
        most_invitations: int = 0,
        request_hash: bytes = b"",
    ) -> bool:
        """Create a conversation of the owner and these members, and invite the others.

        ``request_hash`` stands for the request: returns False, and changes nothing, when this owner has created the
        conversation by the same request before; without a hash no request is the same. Raises Conflict (the id is
        taken, or too many invitations of the owner are open), Unavailable.
        """

    async def add(
        self,
        conversation_id: str,
        user_id: str,
        by: str,
        *,
        seen: Standing | None = None,
        reads_older: bool = True,
    ) -> None:
        """Add a member, who stands to the conversation as ``seen`` (None: however). Idempotent.

        ``reads_older``: the member may read what was said before. Raises NotFound, Forbidden, Conflict (full),
        Unavailable (also when the user stands otherwise meanwhile).
        """

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        """Remove a member, or withdraw an invitation. Idempotent.

        Raises NotFound, Forbidden, Conflict (the owner), Unavailable.
        """

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        """Return the conversation as this member sees it; None for others. Raises Unavailable."""

    async def mine(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Summary]:
        """Return the user's conversations, newest activity first, from behind ``before`` on. Raises Unavailable."""

    async def unread(self, user_id: str) -> Unread:
        """Return what is unread in all of the user's conversations. Raises Unavailable."""


def check_seen(standing: Standing, seen: Standing | None) -> None:
    """Check that a user still stands to a conversation as the policy was told. Raises Unavailable."""
    if seen is not None and standing is not seen:
        raise Unavailable("the membership has changed meanwhile; try again")


def check_change(kind: ChangeKind, role: str | None, *, user_id: str, by: str) -> None:
    """Check that ``by``, with this role, may change the membership of ``user_id``.

    The owner may change any but their own; a member may only leave. ``role`` is None for a user who is no member and
    may not learn that the conversation exists. Raises NotFound, Forbidden, Conflict.
    """
    if role is None:
        raise NotFound(NO_CONVERSATION)
    leaving = kind is ChangeKind.MEMBER_REMOVED and user_id == by
    if role != "owner" and not leaving:
        raise Forbidden("only the owner may do this; a member may only leave")
    if role == "owner" and leaving:
        raise Conflict("the owner cannot leave the conversation")
