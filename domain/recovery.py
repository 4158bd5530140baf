"""Recovery of a store that went back in time: what the log holds and the store lacks is put back. Pure, and its port.

Entries are only appended, never rewritten: whoever has read the store since it went back has read what stays. An event
keeps the seq under which it was published as long as that is free; where one between is in no log, an entry that says
so takes its place. An event whose seq was given out again since then comes behind all others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol, TypeAlias

from msgspec.structs import replace

from domain.log_position import Position
from schemas.events import ConversationChanged, MediaProcessed, MediaUploaded, MessageCreated, ReceiptRecorded

Entered: TypeAlias = MessageCreated | ConversationChanged | MediaProcessed
"""Events of entries of the change log, and of creations."""
MAX_HOLE = 1_000
"""Entries between two that may be lost: the relay publishes each conversation in order, so they are few."""


@dataclass(frozen=True, slots=True)
class Returned:
    """An entry to append under this seq; without an event it stands for one that is lost."""

    seq: int
    event: Entered | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Entries to append to a conversation, dense behind its head.

    ``moved``: events that get another seq than they had; ``lost``: entries that are in no log. ``shared``: up to there
    the conversation is as it was before it went back, if nothing was appended since.
    """

    entries: tuple[Returned, ...]
    moved: int
    lost: int
    shared: int


@dataclass(frozen=True, slots=True)
class Restored:
    """Numbers of what came back in a conversation, and of what is gone."""

    created: int = 0
    """1 when the conversation itself came back."""
    messages: int = 0
    members: int = 0
    """Changes of members and invitations."""
    media: int = 0
    """Entries of files that are ready."""
    moved: int = 0
    lost: int = 0
    resent: int = 0
    """Messages that their senders have sent again since, under the same key: they stay as they are."""
    gone: int = 0
    """Events of a conversation that neither the store nor the log has."""

    def __add__(self, other: Restored) -> Restored:
        return Restored(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Restored)))


class Recovery(Protocol):
    """Store that takes back what the log holds. All calls raise Unavailable."""

    async def begin(self) -> None:
        """Prepare for ``keep``. One recovery at a time: raises Conflict while another runs."""

    async def noted(self) -> tuple[str, Mapping[str, int]] | None:
        """Return the cluster id of the log and its noted ends; None when none was ever noted."""

    async def keep(self, events: Sequence[Entered | MediaUploaded]) -> None:
        """Keep those of the events that the store lacks, for ``put_back``."""

    async def span(self) -> tuple[datetime, datetime] | None:
        """Return the times of the first and the last event that was kept; None when the store lacks nothing."""

    async def lacking(self) -> Sequence[str]:
        """Return the conversations of what was kept."""

    async def put_back(self, conversation_id: str, *, dry_run: bool = False) -> Restored:
        """Append what was kept of a conversation, in one transaction; with ``dry_run`` only count."""

    async def put_back_uploads(self, *, dry_run: bool = False) -> int:
        """Store the uploads that were kept, whose files are still there; return their number."""

    async def record(self, receipt: ReceiptRecorded) -> bool:
        """Owe a receipt again, up to the head; return False for no member."""

    async def republish(self, since: datetime) -> int:
        """Owe all events since then again, so that the stages do again what the store has lost; return their number."""

    async def note(self, position: Position, epochs: Sequence[str], before: datetime | None) -> None:
        """Note that the store has what the log holds up to this position.

        ``epochs`` that the store does not know share with it what its last epoch before ``before`` does.
        """


def seq_of(event: Entered) -> int:
    """Return the seq of an event's entry; 0 of a creation."""
    return event.seq


def distinct(events: Sequence[Entered]) -> list[Entered]:
    """Return each fact once, as the log has it last: it may have been published again, under another seq too.

    Key and hash of a message are taken from whichever record has them.
    """
    found: dict[tuple[str, ...], Entered] = {}
    for event in events:
        name = _name(event)
        before = found.pop(name, None)
        found[name] = event
        if isinstance(before, MessageCreated) and isinstance(event, MessageCreated) and event.body_hash is None:
            key = before.client_message_id
            found[name] = replace(event, client_message_id=key, body_hash=before.body_hash)
    return list(found.values())


def _name(event: Entered) -> tuple[str, ...]:
    match event:
        case MessageCreated(message=message):
            return ("message", message.message_id)
        case MediaProcessed():
            return ("media", event.message_id, event.media_id)
        case ConversationChanged():
            return (event.change, event.user_id, event.by, event.at)


def plan(head: int, events: Sequence[Entered], resent: Collection[int] = ()) -> Plan:
    """Return how to append these events behind the head. They are lacking, of one conversation, and no creations.

    ``resent``: seqs that messages had which are in the store under another one. What takes their place is not lost.
    """
    entries: list[Returned] = []
    behind: list[Entered] = []
    last = shared = head
    lost, intact = 0, True
    for event in sorted(events, key=seq_of):
        seq = seq_of(event)
        if seq <= last or seq - last > MAX_HOLE:
            behind.append(event)
            intact = intact and seq > head
            continue
        holes = range(last + 1, seq)
        entries += [Returned(hole, None) for hole in holes]
        entries.append(Returned(seq, event))
        lost += sum(hole not in resent for hole in holes)
        intact, last = intact and not holes, seq
        shared = seq if intact else shared
    entries += [Returned(last + nth, at(event, last + nth)) for nth, event in enumerate(behind, 1)]
    return Plan(tuple(entries), len(behind), lost, shared)


def at(event: Entered, seq: int) -> Entered:
    """Return the event under another seq."""
    match event:
        case MessageCreated(message=message):
            return replace(event, message=replace(message, seq=seq))
        case ConversationChanged(hidden_up_to=hidden) if hidden:  # what came before the joining stays hidden
            return replace(event, seq=seq, hidden_up_to=seq - 1)
        case _:
            return replace(event, seq=seq)


def count(entries: Sequence[Returned]) -> Restored:
    """Return how many entries of each kind there are."""
    events = [entry.event for entry in entries]
    return Restored(
        messages=sum(isinstance(event, MessageCreated) for event in events),
        members=sum(isinstance(event, ConversationChanged) for event in events),
        media=sum(isinstance(event, MediaProcessed) for event in events),
    )
