"""Status: a message moves forward, never back.

reads   message.created, receipt.recorded
writes  message.sent, message.status, receipt.recorded
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from domain.watermarks import Statuses, Watermark, WatermarkAdvance
from schemas.clock import now
from schemas.events import MAX_NAMED, AnyEvent, MessageCreated, MessageSent, MessageStatus, ReceiptRecorded
from schemas.messages import Message, Status
from streams.stage import Outcome, Refused, Stage, Unfinished
from streams.stored_messages import resolve

EVERYBODY_UP_TO = 32
"""In conversations of at most so many members, senders get each member's watermark; in larger ones only those that move
a message's own status."""


def watermarks_of(receipts: Iterable[ReceiptRecorded]) -> list[Watermark]:
    """Return the watermark of each receipt. Read implies delivered."""
    return [
        Watermark(r.conversation_id, r.user_id, max(r.delivered_seq, r.read_seq), r.read_seq, r.device)
        for r in receipts
    ]


def receipts_of(answers: Iterable[Message], at: str) -> list[ReceiptRecorded]:
    """Return one receipt for each sender in a conversation: everything up to their last answer is read."""
    last: dict[tuple[str, str], int] = {}
    for message in answers:
        key = (message.conversation_id, message.sender_id)
        last[key] = max(message.seq, last.get(key, 0))
    return [
        ReceiptRecorded(conversation_id=id_, user_id=user, delivered_seq=seq, read_seq=seq, at=at)
        for (id_, user), seq in last.items()
    ]


@dataclass(frozen=True, slots=True)
class HandleStatus:
    """Rule of the stage: messages become sent, receipts become watermarks.

    What passes on as sent is the store's message: it is shown to people. A message is also a receipt: who answers has
    read what came before. That receipt takes the way of all others, so that it holds up no message.
    """

    statuses: Statuses

    async def __call__(self, events: Sequence[AnyEvent]) -> Outcome:
        created = [event for event in events if isinstance(event, MessageCreated)]
        receipts = [event for event in events if isinstance(event, ReceiptRecorded)]
        return [*(await self._send(created) if created else ()), *(await self._advance(receipts) if receipts else ())]

    async def told(self, events: Sequence[AnyEvent]) -> Collection[str]:
        """Return the ids of completions that people were told of: of sent messages, of watermarks that are reached."""
        created = [event.message.message_id for event in events if isinstance(event, MessageCreated)]
        receipts = [event for event in events if isinstance(event, ReceiptRecorded)]
        marks = await self.statuses.watermarks(sorted({(r.conversation_id, r.user_id) for r in receipts}))
        reached = {
            (receipt.conversation_id, receipt.user_id, *mark)
            for receipt in receipts
            if (mark := marks.get((receipt.conversation_id, receipt.user_id))) is not None
            and max(receipt.delivered_seq, receipt.read_seq) <= mark[0]
            and receipt.read_seq <= mark[1]
        }
        return {
            *(f"{id_}:sent" for id_ in await self.statuses.sent(created)),
            *(
                ":".join(map(str, (*mark, status.wire)))
                for mark in reached
                for status in (Status.DELIVERED, Status.READ)
            ),
        }

    async def _send(self, created: Sequence[MessageCreated]) -> Sequence[AnyEvent | Refused]:
        marked = await self.statuses.mark_sent([event.message for event in created])
        resolved, refused = resolve(created, marked.messages)
        messages = [event.message for event in resolved if isinstance(event, MessageCreated)]
        at = now()
        sent = [
            MessageSent(message=msgspec.structs.replace(message, status=Status.SENT.wire), sent_at=at)
            for message in messages
        ]
        answers = [message for message in messages if message.message_id in marked.answers]
        return [*sent, *refused, *receipts_of(answers, at)]

    async def _advance(self, receipts: Sequence[ReceiptRecorded]) -> Outcome:
        marks = watermarks_of(receipts)
        moved = await self.statuses.advance(marks, EVERYBODY_UP_TO)
        at, untrue = now(), set(moved.refused)
        others: list[Refused | Unfinished] = []
        for receipt, mark in zip(receipts, marks, strict=True):
            if mark in untrue:
                # No dead letter: the next receipt says more, and one that comes after its member has left is usual.
                others.append(Refused(receipt, "no such member, or beyond the head", keep=False))
            elif (mark.conversation_id, mark.user_id) in moved.unfinished:
                others.append(Unfinished(receipt))
        return [*(_event(advance, at) for advance in moved.advances), *others]


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
    rule, reads = HandleStatus(statuses), (MessageCreated, ReceiptRecorded)
    writes = (MessageSent, MessageStatus, ReceiptRecorded)
    # Receipts are many, and come from clients: neither their number nor a bad one holds up what is sent.
    return Stage("status", reads, writes, rule, told=rule.told, apart=(ReceiptRecorded,))
