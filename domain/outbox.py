"""Port to the outbox, for the relay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.errors import Unavailable
from domain.log_position import Position
from schemas.events import ConversationChanged, MessageCreated

TOLD_AFTER_S = 60
"""Seconds after its publication for which an event that a log lost may not have been told to anybody."""


@dataclass(frozen=True, slots=True)
class Owed:
    """An event that is committed and not yet known to be in Kafka."""

    conversation_id: str
    """Key of the record: the conversation, or the upload that belongs to none."""
    seq: int
    topic: str
    value: bytes
    event_id: str
    part: str = ""
    """Distinguishes the facts that take no seq of their own and stand behind the seq that they name."""
    replay: bool = False
    """True for an event that was published before."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of the log since the last comparison. All retained rows are owed again."""

    what: str
    rows: int
    """Number of rows that this comparison owes again."""
    known: bool = False
    """True when another relay has found the loss and owed the rows again."""


Entered: TypeAlias = MessageCreated | ConversationChanged
"""Events of entries of the change log, and of creations: the store has each of them before it is published."""


class StoreBehind(Unavailable):
    """The log holds events that the store lacks: the store went back in time."""


ReadAgain: TypeAlias = Callable[[Position], Awaitable[Position]]
"""Reads the current position of the log; its argument is the noted one."""


class Outbox(Protocol):
    """Outbox rows of the shards that this relay owns. A lost connection to the store loses the shards."""

    @property
    def shards(self) -> frozenset[int]:
        """Return the shards owned now; a shard has at most one owner among all relays."""

    async def claim(self) -> None:
        """Take every shard without an owner. Raises Unavailable."""

    async def unpublished(self, limit: int) -> Sequence[Owed]:
        """Return unpublished rows of the owned shards, chosen by state, each conversation in the order of seqs.

        What is owed for the first time comes first, after what its conversation owes again. What else is owed again
        comes last. Raises Unavailable.
        """

    async def mark(self, rows: Sequence[Owed], ends: Mapping[str, int]) -> bool:
        """Mark rows as published; return False, and mark none, when a loss was found since our last ``compare``.

        The ends of the log are noted in the same transaction, so that a loss of any marked row is noticed. False, too,
        when others are owed in the place of all rows by now. Raises Unavailable.
        """

    async def compare(self, found: Position, again: ReadAgain | None = None) -> Loss | None:
        """Note the position of the log; return the loss if it has lost records.

        After a loss all retained rows of all shards are owed again before any relay publishes more; when several
        relays find the same loss, this is done once, and the others return a loss that is ``known``: what they
        published before they compared may be lost, and rows of theirs are owed again. ``found`` may be older than the
        position that another relay has noted since, so a loss counts only when ``again`` confirms it while no other
        relay can note one.
        Raises Unavailable.
        """

    async def begin_epoch(self) -> str:
        """Return the epoch of the store, which begins now if it is another server than before. Raises Unavailable."""

    async def noted(self) -> Position | None:
        """Return the noted position of the log; None when none was ever noted. Raises Unavailable."""

    async def first_lacking(self, events: Sequence[Entered]) -> int | None:
        """Return the place in ``events`` of the first one that the store does not have; None when it has all.

        Raises Unavailable.
        """

    async def noted_replication(self) -> int | None:
        """Return the noted number of replicas; None when no position was ever noted. Raises Unavailable."""
