"""Watermarks of members and devices, and the statuses that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.ids import NO_DEVICE
from schemas.messages import Status


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a device of a member has got, as a receipt says."""

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int
    device: str = NO_DEVICE


def furthest(marks: Iterable[Mark]) -> list[Mark]:
    """One mark for each device: the furthest of each kind. Read implies delivered."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for mark in marks:
        key = (mark.conversation_id, mark.user_id, mark.device)
        delivered, read = found.get(key, (0, 0))
        read = max(read, mark.read_seq)
        found[key] = (max(delivered, mark.delivered_seq, read), read)
    return [Mark(conversation, user, *seqs, device) for (conversation, user, device), seqs in found.items()]


def of_members(marks: Iterable[Mark]) -> list[Mark]:
    """One mark for each member: the maximum over the devices."""
    return furthest(replace(mark, device=NO_DEVICE) for mark in marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A watermark that is stored, and whom it concerns."""

    conversation_id: str
    user_id: str
    status: Status
    seq: int
    delivered_seq: int
    read_seq: int
    message_ids: tuple[str, ...]
    notify: tuple[str, ...]


class Statuses(Protocol):
    """Statuses and watermarks in the store."""

    async def mark_sent(self, message_ids: Sequence[str]) -> None:
        """pending → sent; what is further stays. Raises Unavailable."""

    async def fold(self, marks: Sequence[Mark], everybody_up_to: int) -> Sequence[Moved]:
        """Raise the watermarks of devices, and of members to their maximum (never lower, never beyond the head), and
        the statuses of others' messages.

        A mark that is the current watermark is told again, so that a crash before the telling costs nothing; an
        older one is not. Raises Unavailable.
        """
