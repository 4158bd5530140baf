"""Analytics: how many messages each conversation had in each minute.

reads   message.created
writes  analytics.conversation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.analytics import Counts, MinuteCount
from domain.messages import Messages
from domain.parking import Parking
from schemas.clock import now
from schemas.events import AnyEvent, ConversationCounted, MessageCreated
from schemas.messages import Message
from streams.lanes import THROUGHPUT
from streams.stage import Stage
from streams.stored_messages import WithStoredMessages


def tick(message: Message) -> MinuteCount:
    """Return the count of a message: in the minute of its creation."""
    return MinuteCount(message.conversation_id, message.seq, message.created_at[:16] + ":00.000Z")


@dataclass(frozen=True, slots=True)
class HandleAnalytics:
    """Rule of the stage: a message counts once, however often it comes."""

    counts: Counts

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        ticks = [tick(event.message) for event in events if isinstance(event, MessageCreated)]
        return [
            ConversationCounted(
                conversation_id=total.conversation_id, minute=total.minute, messages=total.messages, at=now()
            )
            for total in await self.counts.add(ticks)
        ]


def create(counts: Counts, parking: Parking, messages: Messages) -> Stage:
    """Return the stage ``analytics``. A conversation's cursor passes over nothing, so no failure is overtaken."""
    reads, writes = (MessageCreated,), (ConversationCounted,)
    rule = WithStoredMessages(messages, HandleAnalytics(counts))
    return Stage("analytics", reads, writes, rule, parking, policy=THROUGHPUT)
