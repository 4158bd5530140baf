"""Notifications of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """What one recipient is to find. Unique by (message, recipient, channel)."""

    notification_id: str
    message_id: str
    conversation_id: str
    seq: int
    user_id: str
    channel: str = "in_app"


class Notifications(Protocol):
    """In-app notifications in the store."""

    async def members(self, conversation_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """The current members of each conversation, and up to which seq each has it. Raises Unavailable."""

    async def add(self, message_ids: Sequence[str], notices: Sequence[Notice]) -> Sequence[Notice]:
        """Store those that are not there yet; return all notices of these messages, as stored.

        Also those for members who have come back since: a crash may have kept them from being told. Raises
        Unavailable.
        """
