"""A stage: what it reads and writes, and its rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.event_log import EventLog
from domain.parking import Parking
from schemas.events import AnyEvent
from schemas.topics import dead_letter_topic, retry_topic
from streams.lanes import LOW_LATENCY, BatchPolicy
from streams.turns import OwnerOf


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the store contradicts: it has no effect, and holds up nobody.

    ``keep``: as a dead letter; else it is only counted. ``reason`` names no value.
    """

    event: AnyEvent
    reason: str
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An event that is more work than one call of the rule does.

    The rule gets it again, without the events that are done, once the completions of this call are durable.
    """

    event: AnyEvent


Outcome: TypeAlias = Sequence[AnyEvent | Refused | Unfinished]
Handle: TypeAlias = Callable[[Sequence[AnyEvent]], Awaitable[Outcome]]
Weigh: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[int]]]


Told: TypeAlias = Callable[[Sequence[AnyEvent]], Awaitable[Collection[str]]]
"""Returns the ids of those completions of events that people were told of before, as the store knows it. It is called
before the rule, and with events only that were published before. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Completions that the log of this epoch may not have."""

    completions: Sequence[AnyEvent]
    epoch: int


class Publication(Protocol):
    """Memory of the completions that the log has. A crash before ``done`` costs a repeat, never a completion."""

    async def missing(self, completions: Sequence[AnyEvent]) -> Missing:
        """Return the completions that the log may not have. Raises Unavailable."""

    async def done(self, written: Missing) -> None:
        """Note that the log of that epoch has these. Raises Unavailable."""


class Beside(Protocol):
    """Work that no record starts, beside the lanes: it is due at a time."""

    async def run(self, log: EventLog, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set, and finish what is under way then."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A name (also the consumer group), the events that it reads and writes, and its rule: events in, completions out.

    A record is a claim, and only the store knows whether it is true: ``handle`` returns Refused for what is not.
    It may get a batch again, wholly or in part, after a crash: its effect is idempotent and it returns the same
    completions. It raises Unavailable for what may work later; anything else is taken for a record that can never work.
    """

    name: str
    reads: tuple[type[AnyEvent], ...]
    writes: tuple[type[AnyEvent], ...]
    handle: Handle
    parking: Parking | None = None
    """Set where order matters: once a record of a conversation has failed, all later ones of it are set aside too,
    until they are replayed in order. None where each record stands for itself."""
    policy: BatchPolicy = LOW_LATENCY
    weigh: Weigh | None = None
    """Conversation ids, one for each record of a batch → rows that each record may write; raises Unavailable. Set where
    one record may write thousands. None: each record writes one."""
    owner_of: OwnerOf | None = None
    """Whose work an event is; None for next to no work. Set where one record may take long: owners then take turns of a
    record each, and ``handle`` may raise TurnEnded to go on in a later turn."""
    told: Told | None = None
    """Set where people are told of completions: a repeat must not tell them again."""
    publication: Publication | None = None
    """Set where completions are written once only, not at each repeat."""
    apart: tuple[type[AnyEvent], ...] = ()
    """Events with lanes of their own, so that they never hold up the others. Without ``parking`` only: no order holds
    between them."""

    beside: Beside | None = None
    """Set where some work is due at a time, and not when a record comes."""

    @property
    def dead_letters(self) -> str:
        """The topic of records that can never work."""
        return dead_letter_topic(self.name)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the stage consumes: those of its events, and its retries."""
        return (*(kind.TOPIC for kind in self.reads), retry_topic(self.name))
