"""Facts to publications: each fact of the store becomes messages on Redis channels. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from msgspec.structs import replace

from gateway import channels
from gateway.channels import NOBODY, Envelope, Kind
from gateway.confirmation import Fact
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
from schemas.fields import ListName
from schemas.messages import Change, ChangeKind

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
class ListHint:
    """A packed envelope for the channel of a user one of whose lists has changed.

    Of many in a short time only the first few are published as they are: see ``ListBudget``.
    """

    user_id: str
    list: ListName
    envelope: bytes

    @property
    def publication(self) -> Publication:
        """The hint as it is."""
        return channels.user_messages(self.user_id), self.envelope

    @property
    def collapsed(self) -> Publication:
        """The hint that stands for several: the list is to be read again."""
        return channels.user_messages(self.user_id), _list_changed(self.list)


@dataclass(frozen=True, slots=True)
class Publications:
    """Everything that is published for one event: to users, to a room, to all members, and about users' lists."""

    users: tuple[Publication, ...] = ()
    room: tuple[Publication, ...] = ()
    hint: Hint | None = None
    lists: tuple[ListHint, ...] = ()

    @property
    def certain(self) -> tuple[Publication, ...]:
        """Return what is not thinned."""
        return (*self.users, *self.room)


def publications_of(fact: Fact, *, is_replay: bool = False) -> Publications:
    """Return what is published for a fact. One that was told before goes to its room only, which drops it by seq."""
    publications = _publications(fact)
    return Publications(room=publications.room) if is_replay else publications


def _publications(fact: Fact) -> Publications:
    match fact:
        case Change():
            return _entry(fact)
        case ConversationChanged():
            return Publications(lists=_created(fact))
        case MessageStatus():
            return Publications(tuple(_status(fact)))
        case NotificationSent():
            envelope = Envelope(Kind.NOTIFICATION, fact.seq, fact.conversation_id, frames.notification(fact))
            return Publications(((channels.user_notifications(fact.user_id), envelope.packed()),))


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


def _entry(change: Change) -> Publications:
    id_, room = change.conversation_id, room_envelope(change)
    match change.kind:
        case ChangeKind.MEMBER_ADDED | ChangeKind.MEMBER_REMOVED:  # to the user concerned, wherever that is
            listed = ListHint(room.about, "conversations", replace(room, about=id_).packed())
            return Publications(room=(to_room(id_, room),), lists=(listed,))
        case ChangeKind.MEMBER_INVITED | ChangeKind.INVITATION_ENDED:  # who is invited gets nothing of the conversation
            return Publications(room=(to_room(id_, room),), lists=(_invitations_changed(room.about),))
    return Publications(room=(to_room(id_, room),), hint=Hint(id_, replace(room, about=id_).packed()))


def _created(event: ConversationChanged) -> tuple[ListHint, ...]:
    frame = frames.conversation_created(event)
    created = Envelope(ConversationChange.CREATED, 0, event.conversation_id, frame).packed()
    return (
        *(ListHint(user, "conversations", created) for user in event.members),
        *map(_invitations_changed, event.invited),
    )


def _invitations_changed(user_id: str) -> ListHint:
    return ListHint(user_id, "invitations", _list_changed("invitations"))


def _list_changed(name: ListName) -> bytes:
    return Envelope(Kind.LIST_CHANGED, 0, name, frames.list_changed(name)).packed()


def _status(event: MessageStatus) -> list[Publication]:
    # Both watermarks only rise, so their sum tells which of two frames goes further.
    rank = event.delivered_seq + event.read_seq
    about = f"{event.conversation_id}/{event.user_id}"
    return to_users(
        Envelope(Kind.STATUS, rank, about, frames.message_status(event)), sorted({*event.notify, event.user_id})
    )
