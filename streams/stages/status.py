"""Status: a message moves forward, never back.

reads   message.created, receipt.recorded
writes  message.sent, message.status
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from domain.watermarks import Statuses, Watermark, WatermarkAdvance, merge
from schemas.clock import now
from schemas.events import MAX_NAMED, AnyEvent, MessageCreated, MessageSent, MessageStatus, ReceiptRecorded
from schemas.messages import Status
from streams.batch import Stage

EVERYBODY_UP_TO = 32
"""In conversations of at most so many members, senders get each member's watermark; in larger ones only those that move
a message's own status."""


def watermarks_of(receipts: Iterable[ReceiptRecorded]) -> list[Watermark]:
    """Return one watermark for each device of a member: the highest of each kind."""
    return merge(Watermark(r.conversation_id, r.user_id, r.delivered_seq, r.read_seq, r.device) for r in receipts)


@dataclass(frozen=True, slots=True)
class HandleStatus:
    """Rule of the stage: messages become sent, receipts become watermarks."""

    statuses: Statuses

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        created = [event.message for event in events if isinstance(event, MessageCreated)]
        marks = watermarks_of(event for event in events if isinstance(event, ReceiptRecorded))
        at = now()
        completions: list[AnyEvent] = []
        if created:
            await self.statuses.mark_sent([message.message_id for message in created])
            completions += [
                MessageSent(message=msgspec.structs.replace(message, status=Status.SENT.wire), sent_at=at)
                for message in created
            ]
        if marks:
            completions += [_event(moved, at) for moved in await self.statuses.advance(marks, EVERYBODY_UP_TO)]
        return completions


def _event(moved: WatermarkAdvance, at: str) -> MessageStatus:
    return MessageStatus(
        conversation_id=moved.conversation_id,
        user_id=moved.user_id,
        status=moved.status.wire,
        seq=moved.seq,
        delivered_seq=moved.delivered_seq,
        read_seq=moved.read_seq,
        at=at,
        message_ids=moved.message_ids[:MAX_NAMED],
        notify=moved.notify,
    )


def create(statuses: Statuses) -> Stage:
    """Return the stage ``status``."""
    reads, writes = (MessageCreated, ReceiptRecorded), (MessageSent, MessageStatus)
    return Stage("status", reads, writes, HandleStatus(statuses))
