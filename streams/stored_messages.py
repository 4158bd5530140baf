"""Messages as the store has them: a rule acts on these, and not on what a record says.

Whoever can write to a topic can say anything in it: a relay of another stack, a mirror, a store that was restored to an
earlier hour. A record about a message that the store does not have, or has in another place, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from domain.messages import Messages
from schemas.events import AnyEvent, MessageCreated
from schemas.messages import Message
from streams.stage import Handle, Outcome, Refused, Unfinished

T = TypeVar("T")
NO_MESSAGE = "no such message"


def resolve(events: Sequence[AnyEvent], stored: Mapping[str, Message]) -> tuple[list[AnyEvent], list[Refused]]:
    """Return the events with the messages of the store, and those that the store contradicts; others stay."""
    resolved, refused = list[AnyEvent](), list[Refused]()
    for event in events:
        if not isinstance(event, MessageCreated):
            resolved.append(event)
            continue
        message = stored.get(event.message.message_id)
        if message is not None and _place(message) == _place(event.message):
            resolved.append(MessageCreated(message=message))
        else:
            refused.append(Refused(event, NO_MESSAGE))
    return resolved, refused


def _place(message: Message) -> tuple[str, int]:
    return message.conversation_id, message.seq


@dataclass(frozen=True, slots=True)
class WithStoredMessages:
    """A rule that gets every message as the store has it, and none that the store does not have."""

    messages: Messages
    rule: Handle

    async def __call__(self, events: Sequence[AnyEvent]) -> Outcome:
        claimed = {event.message.message_id: event for event in events if isinstance(event, MessageCreated)}
        resolved, refused = resolve(events, await self.messages.find(list(claimed)))
        outcome = await self.rule(resolved) if resolved else ()
        return [*(_of_record(each, claimed) for each in outcome), *refused]


def _of_record(outcome: T, claimed: Mapping[str, MessageCreated]) -> T | Refused | Unfinished:
    """Return what a rule says; of a message that it refuses or has not finished, by the event of its record."""
    if isinstance(outcome, Refused | Unfinished) and isinstance(outcome.event, MessageCreated):
        return replace(outcome, event=claimed[outcome.event.message.message_id])
    return outcome
