"""Invitations: the port to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.policy import Standing

NO_INVITATION = "no such invitation of yours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An open invitation, as the invited user sees it."""

    conversation_id: str
    title: str | None
    invited_by: str
    member_count: int
    at: datetime


class Invitations(Protocol):
    """Store of invitations. An invitation, and its end, each take one seq of the conversation.

    An invited user is no member: nothing of the conversation can be read with an invitation but what stands in it.
    """

    async def invite(self, conversation_id: str, user_id: str, by: str, *, seen: Standing, most: int = 0) -> None:
        """Invite a user who stands to the conversation as ``seen``. Idempotent.

        ``most``: open invitations of the inviter; 0 sets no bound. Raises NotFound, Forbidden, Conflict (too many are
        open), Unavailable (also when the user stands otherwise meanwhile).
        """

    async def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Invitation]:
        """Return the user's open invitations, newest first, from behind ``before`` on. Raises Unavailable."""

    async def accept(self, conversation_id: str, user_id: str, *, reads_older: bool = True) -> None:
        """Make the invited user a member. Idempotent for a member.

        ``reads_older``: the user may read what was said before. Raises NotFound (no invitation), Conflict (the
        conversation is full), Unavailable.
        """

    async def decline(self, conversation_id: str, user_id: str) -> bool:
        """End the user's invitation, and note that its sender was declined; return False when there was none.

        Raises Unavailable.
        """
