"""Watermarks of members and devices, and the statuses that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.ids import NO_DEVICE
from schemas.messages import Message, Status

DEVICES_PER_MEMBER = 32
"""Devices of a member in a conversation whose watermarks are kept, unless a setting says otherwise."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Watermarks of a device of a member, as a receipt gives them."""

    conversation_id: str
    user_id: str
    delivered_seq: int
    read_seq: int
    device: str = NO_DEVICE


def merge(marks: Iterable[Watermark]) -> list[Watermark]:
    """Return one mark for each device, with the maximum of each watermark. Read implies delivered."""
    maxima: dict[tuple[str, str, str], tuple[int, int]] = {}
    for mark in marks:
        key = (mark.conversation_id, mark.user_id, mark.device)
        delivered, read = maxima.get(key, (0, 0))
        read = max(read, mark.read_seq)
        maxima[key] = (max(delivered, mark.delivered_seq, read), read)
    return [Watermark(conversation, user, *seqs, device) for (conversation, user, device), seqs in maxima.items()]


def of_members(marks: Iterable[Watermark]) -> list[Watermark]:
    """Return one mark for each member: the maximum over the devices."""
    return merge(replace(mark, device=NO_DEVICE) for mark in marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkAdvance:
    """A stored watermark of a member, with the messages whose status it changed and the users to notify."""

    conversation_id: str
    user_id: str
    status: Status
    seq: int
    delivered_seq: int
    read_seq: int
    message_ids: tuple[str, ...]
    notify: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advances:
    """Watermarks that were stored, and the marks that the store contradicts: of no member, or beyond the head.

    ``unfinished``: (conversation, user) whose marks lead further than one call goes; the same marks go on from there.
    """

    advances: Sequence[WatermarkAdvance]
    refused: Sequence[Watermark]
    unfinished: Collection[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Marked:
    """Messages that the store has, by id, and the ids of those by which their senders answer.

    Who answers has read what came before. An answer is counted only where no receipt of its sender says so already.
    """

    messages: Mapping[str, Message]
    answers: Collection[str] = ()


SEQS_MAX = 10_000
"""Seqs that one call raises watermarks by, and so messages whose status it changes."""


def step(marks: int) -> int:
    """Return the seqs by which one call raises each of so many members' marks at most."""
    return max(1, SEQS_MAX // max(1, marks))


def split(marks: Sequence[Watermark], heads: Mapping[tuple[str, str], int]) -> tuple[list[Watermark], list[Watermark]]:
    """Return the marks that may be true, and those that cannot be.

    ``heads``: (conversation, member) → the conversation's head.
    """
    possible, refused = list[Watermark](), list[Watermark]()
    for mark in marks:
        head = heads.get((mark.conversation_id, mark.user_id), -1)
        (possible if max(mark.delivered_seq, mark.read_seq) <= head else refused).append(mark)
    return possible, refused


class Statuses(Protocol):
    """Store of statuses and watermarks."""

    async def mark_sent(self, claimed: Sequence[Message]) -> Marked:
        """Set pending messages to sent, where the store has them in the claimed places; further statuses stay.

        Returns the messages with these ids that the store has. Raises Unavailable.
        """

    async def sent(self, message_ids: Sequence[str]) -> Collection[str]:
        """Return those of these messages that are sent, or further. Raises Unavailable."""

    async def watermarks(self, members: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Return (conversation, member) → (delivered seq, read seq), where there is one. Raises Unavailable."""

    async def advance(self, marks: Sequence[Watermark], everybody_up_to: int) -> Advances:
        """Raise the watermarks of devices, and those of members to their maximum, and the statuses of others' messages.

        Of each member the latest devices are kept, as many as the store is made for; the member's own watermarks do not
        depend on those that are forgotten.
        Watermarks never fall. A mark of no member or beyond the head moves nothing. One that equals the current
        watermark is returned again, so that a crash before its event was published costs nothing; an older one is not.
        Notifications of what a member has read are seen from then on.
        A call does a bounded part of the work, in one transaction. Raises Unavailable.
        """
