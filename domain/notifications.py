"""Notifications of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification of one recipient; unique by (message, recipient, channel)."""

    notification_id: str
    message_id: str
    conversation_id: str
    seq: int
    user_id: str
    channel: str = "in_app"


class Notifications(Protocol):
    """Store of in-app notifications."""

    async def members(self, conversation_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Return conversation → current member → the seq up to which messages reached them. Raises Unavailable."""

    async def add(self, message_ids: Sequence[str], notices: Sequence[Notice]) -> Sequence[Notice]:
        """Store the notices that are not stored yet; return all notices of these messages, as stored.

        The result includes notices of members who have connected since then: a crash may have kept their event from
        being published. Raises Unavailable.
        """
