"""Events to publications: each completion event becomes messages on Redis channels, in one call. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from msgspec.structs import replace

from domain.changes import change_of
from gateway import channels
from gateway.channels import NOBODY, Envelope, Kind
from schemas import frames
from schemas.events import (
    AnyEvent,
    ConversationChange,
    ConversationChanged,
    MediaProcessed,
    MessageSent,
    MessageStatus,
    NotificationSent,
)
from schemas.messages import Change

READS: tuple[type[AnyEvent], ...] = (
    MessageSent,
    ConversationChanged,
    MediaProcessed,
    MessageStatus,
    NotificationSent,
)
"""Events that the gateway publishes."""

Publication: TypeAlias = tuple[str, bytes]
"""(channel, packed envelope)."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A packed envelope for the channels of all members; they may be thinned, so that only the latest arrives."""

    conversation_id: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Publications:
    """Everything that is published for one event: to its users, to its room, and to all members of the conversation."""

    users: tuple[Publication, ...] = ()
    room: tuple[Publication, ...] = ()
    hint: Hint | None = None

    @property
    def certain(self) -> tuple[Publication, ...]:
        """Return what is not thinned."""
        return (*self.users, *self.room)


def publications_of(event: AnyEvent, *, is_replay: bool = False) -> Publications:
    """Return what is published for an event; nothing for an event of another kind.

    An event that was told before goes to its room only, which drops by seq what it has.
    """
    publications = _publications(event)
    return Publications(room=publications.room) if is_replay else publications


def _publications(event: AnyEvent) -> Publications:
    match event:
        case MessageSent() | MediaProcessed():
            return _content(event)
        case ConversationChanged():
            return _membership(event)
        case MessageStatus():
            return Publications(tuple(_status(event)))
        case NotificationSent():
            about = event.conversation_id
            envelope = Envelope(Kind.NOTIFICATION, event.seq, about, frames.notification(event))
            return Publications(((channels.user_notifications(event.user_id), envelope.packed()),))
        case _:
            return Publications()


def room_envelope(change: Change) -> Envelope:
    """Return the envelope of an entry for sockets that have joined: the same live and replayed from the store."""
    return Envelope(change.kind, change.seq, change.data.get("userId", NOBODY), frames.of_change(change))


def to_room(conversation_id: str, envelope: Envelope) -> Publication:
    """Return the publication for sockets that have joined the conversation."""
    return channels.messages(conversation_id), envelope.packed()


def to_users(envelope: Envelope, users: Iterable[str]) -> list[Publication]:
    """Return the publications for sockets of these users."""
    packed = envelope.packed()
    return [(channels.user_messages(user), packed) for user in users]


def _content(event: MessageSent | MediaProcessed) -> Publications:
    change = change_of(event)
    assert change is not None
    id_, room = change.conversation_id, room_envelope(change)
    return Publications(room=(to_room(id_, room),), hint=Hint(id_, replace(room, about=id_).packed()))


def _membership(event: ConversationChanged) -> Publications:
    change = change_of(event)
    if change is None:
        created = Envelope(ConversationChange.CREATED, 0, event.conversation_id, frames.conversation_created(event))
        return Publications(tuple(to_users(created, event.members)))
    id_, room = change.conversation_id, room_envelope(change)
    return Publications(tuple(to_users(replace(room, about=id_), [event.user_id])), (to_room(id_, room),))


def _status(event: MessageStatus) -> list[Publication]:
    # Both watermarks only rise, so their sum tells which of two frames goes further.
    rank = event.delivered_seq + event.read_seq
    about = f"{event.conversation_id}/{event.user_id}"
    return to_users(
        Envelope(Kind.STATUS, rank, about, frames.message_status(event)), sorted({*event.notify, event.user_id})
    )
