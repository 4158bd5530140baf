"""Search: a message can be found by what it says.

reads   message.created
writes  search.indexed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.messages import Messages
from domain.search import Index
from schemas.clock import now
from schemas.events import AnyEvent, MessageCreated, SearchIndexed
from streams.lanes import THROUGHPUT
from streams.stage import Stage
from streams.stored_messages import WithStoredMessages


@dataclass(frozen=True, slots=True)
class HandleSearch:
    """Rule of the stage: a message is indexed as the store has it, if it has text."""

    index: Index

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        messages = [event.message for event in events if isinstance(event, MessageCreated)]
        found = [message for message in messages if message.content.strip()]
        if found:
            await self.index.refresh([message.message_id for message in found])
        return [
            SearchIndexed(
                conversation_id=message.conversation_id, message_id=message.message_id, seq=message.seq, at=now()
            )
            for message in found
        ]


def create(index: Index, messages: Messages) -> Stage:
    """Return the stage ``search``."""
    rule = WithStoredMessages(messages, HandleSearch(index))
    return Stage("search", (MessageCreated,), (SearchIndexed,), rule, policy=THROUGHPUT)
