"""Port to the facts behind records: a record says that something happened, the store has what did."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from schemas.events import ConversationChanged, NotificationSent
from schemas.messages import Change, Status

Place: TypeAlias = tuple[str, int]
"""(conversation, seq) of an entry of a change log."""
Member: TypeAlias = tuple[str, str]
"""(conversation, user)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Watermarks of a member, and when each was last raised; None before the first time."""

    delivered_seq: int = 0
    read_seq: int = 0
    delivered_at: str | None = None
    read_at: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Keys of the facts that a batch of records is about."""

    entries: Set[Place] = frozenset()
    creations: Set[str] = frozenset()
    """Conversations that were created."""
    members: Set[Member] = frozenset()
    messages: Set[str] = frozenset()
    notifications: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """Facts that the store has, by the same keys. A key that is missing names nothing."""

    entries: Mapping[Place, Change] = field(default_factory=dict)
    creations: Mapping[str, ConversationChanged] = field(default_factory=dict)
    """Each with its current members, and the users whose invitations are open."""
    members: Mapping[Member, Progress] = field(default_factory=dict)
    """Current members only."""
    messages: Mapping[str, tuple[str, Status]] = field(default_factory=dict)
    """Message → its conversation and its status."""
    notifications: Mapping[str, NotificationSent] = field(default_factory=dict)
    """Notifications of current members only."""


class Facts(Protocol):
    """Facts of the store."""

    async def find(self, wanted: Wanted) -> Found:
        """Return the facts that exist, by one query for each kind that is wanted.

        A key that no fact can have (an id that is no UUID, a seq below 1) is missing in the answer, like one that none
        has. Raises Unavailable.
        """
