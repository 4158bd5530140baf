"""Port to the change log of conversations, for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.messages import Change


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of conversations at one moment: the last seq of each that exists, and the epoch of which they are.

    An epoch is the time in which one server gave out seqs: one that was restored or promoted begins another, in which a
    seq may stand for another entry than before.
    """

    epoch: str
    seqs: Mapping[str, int]

    def of(self, conversation_id: str) -> int:
        """Return the head of a conversation; 0 of one that does not exist."""
        return self.seqs.get(conversation_id, 0)


def reset_point(after: int, epoch: str | None, heads: Heads, conversation_id: str, shared: int | None) -> int | None:
    """Return the seq from which a cursor must begin anew; None for one that holds.

    A cursor of another epoch holds up to what that epoch shares with the present one. ``shared``: that seq, None where
    the cursor gives no other epoch; the head bounds it then.
    """
    bound = heads.of(conversation_id)
    if epoch is not None and epoch != heads.epoch:
        bound = min(bound, shared or 0)
    return bound if after > bound else None


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership: the seq at which it began, and the seq up to which the change log is hidden from the member."""

    since: int
    hidden_up_to: int = 0


@dataclass(frozen=True, slots=True)
class Participant:
    """A member of a conversation; ``has_written``: since the membership began."""

    conversation_id: str
    user_id: str
    has_written: bool


class History(Protocol):
    """Change log of conversations, and their members, who may read it."""

    async def membership(self, conversation_id: str, user_id: str) -> Membership | None:
        """Return the membership of a current member; None for others. Raises Unavailable."""

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        """Return the current members, the first ``limit`` of them by name. Raises Unavailable."""

    async def heads(self, conversation_ids: Sequence[str]) -> Heads:
        """Return the heads of the conversations, and the epoch, by one query.

        They are those of the primary: a replica that lags would look like a store that went back. Raises Unavailable.
        """

    async def shared(self, conversation_id: str, epoch: str) -> int:
        """Return the last seq up to which the conversation is as it was in that epoch; 0 of an unknown epoch.

        Raises Unavailable.
        """

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        """Return the entries with ``after < seq <= up_to``, ascending and dense, at most ``limit``.

        Raises Unavailable.
        """

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        """Return the conversation and the seq of a message; None when there is none. Raises Unavailable."""

    async def participants(self, conversation_id: str, limit: int) -> Sequence[Participant]:
        """Return the current members, the first ``limit`` of them by name. Raises Unavailable."""

    async def reached(self, conversation_id: str, user_id: str, device: str) -> tuple[int, int]:
        """Return the delivered and the read seq that are stored for a device of a member; zeros where there are none.

        For ``NO_DEVICE`` those of the member, since devices without a name are not told apart. Raises Unavailable.
        """

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[Participant]:
        """Return the user as a participant of each conversation with at most ``max_members`` members.

        Raises Unavailable.
        """
