"""Entries of a conversation's change log: what is appended under one seq, and how an event names its entry.

Seqs are dense in each conversation: whoever appends holds the lock of the conversation's row, so that the order of
commits is the order of seqs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.events import (
    AnyEvent,
    ConversationChange,
    ConversationChanged,
    MediaProcessed,
    MessageCreated,
    MessageSent,
)
from schemas.messages import Change, ChangeKind, Message


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An event that the outbox owes to Kafka, in its place: a seq, and a part where several share one."""

    seq: int
    event: AnyEvent
    part: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change to append, and the event that the outbox owes for it; None when a stage publishes the event."""

    change: Change
    event: AnyEvent | None

    @property
    def message_id(self) -> str | None:
        """The message that the change concerns; None for a change of membership."""
        if self.change.message is not None:
            return self.change.message.message_id
        return self.change.data.get("messageId")

    @property
    def data(self) -> Mapping[str, Any] | None:
        """Fields of the entry beside the message; a message has its own row, and none here."""
        return self.change.data if self.change.message is None else None

    @property
    def is_activity(self) -> bool:
        """True where the conversation moves up in its members' lists: media that is ready is no activity."""
        return self.change.kind != ChangeKind.MEDIA_READY


def created_message(message: Message, client_message_id: str | None, body_hash: bytes) -> MessageCreated:
    """Return the event of a message that was accepted, under this key and with this hash of its request."""
    return MessageCreated(message=message, client_message_id=client_message_id, body_hash=body_hash.hex())


def message_entry(message: Message, client_message_id: str | None, body_hash: bytes) -> Entry:
    """Return the entry of a message that was accepted, under this key and with this hash of its request."""
    return Entry(_message_change(message), created_message(message, client_message_id, body_hash))


def lost_entry(conversation_id: str, seq: int, at: str) -> Entry:
    """Return the entry in the place of one that was lost with the store, and that no log has."""
    return Entry(Change(conversation_id=conversation_id, seq=seq, kind=ChangeKind.LOST, data={"at": at}), None)


def returned_entry(event: MessageCreated | ConversationChanged | MediaProcessed) -> Entry:
    """Return the entry of an event that the log has and the store has lost; the event is owed again."""
    match event:
        case MessageCreated(message=message):
            return Entry(_message_change(message), event)
        case MediaProcessed():
            return media_entry(event)
        case ConversationChanged(kind=str() as kind):
            return Entry(_membership_change(event, kind), event)
    raise TypeError("a creation has no entry")


def media_entry(event: MediaProcessed) -> Entry:
    """Return the entry of an attachment that is ready; the media stage publishes its event."""
    return Entry(_media_change(event), None)


def membership_entry(
    kind: ChangeKind, conversation_id: str, seq: int, *, user: str, by: str, at: str, hidden_up_to: int = 0
) -> Entry:
    """Return the entry of USER, whom BY added, removed or invited, or whose invitation BY ended."""
    event = ConversationChanged(
        conversation_id=conversation_id,
        seq=seq,
        change=ConversationChange(kind),
        user_id=user,
        by=by,
        at=at,
        hidden_up_to=hidden_up_to,
    )
    return Entry(_membership_change(event, kind), event)


def created_event(
    conversation_id: str,
    title: str | None,
    owner: str,
    members: tuple[str, ...],
    at: str,
    invited: tuple[str, ...] = (),
    request_hash: bytes = b"",
) -> ConversationChanged:
    """Return the event of a creation, which takes no seq."""
    return ConversationChanged(
        conversation_id=conversation_id,
        seq=0,
        change=ConversationChange.CREATED,
        user_id=owner,
        by=owner,
        at=at,
        title=title,
        members=members,
        invited=invited,
        request_hash=request_hash.hex() or None,
    )


def change_of(event: MessageSent | ConversationChanged | MediaProcessed) -> Change | None:
    """Return the entry that an event announces; None for a creation, which has none."""
    match event:
        case MessageSent(message=message):
            return _message_change(message)
        case MediaProcessed():
            return _media_change(event)
        case ConversationChanged(kind=None):
            return None
        case ConversationChanged(kind=str() as kind):
            return _membership_change(event, kind)
    raise TypeError(f"{type(event).__name__} announces no entry")


def _message_change(message: Message) -> Change:
    return Change(conversation_id=message.conversation_id, seq=message.seq, kind=ChangeKind.MESSAGE, message=message)


def _membership_change(event: ConversationChanged, kind: str) -> Change:
    data = {"userId": event.user_id, "by": event.by, "at": event.at}
    return Change(conversation_id=event.conversation_id, seq=event.seq, kind=kind, data=data)


def _media_change(event: MediaProcessed) -> Change:
    data = {
        "messageId": event.message_id,
        "mediaId": event.media_id,
        "mediaType": event.media_type,
        "name": event.name,
        "size": event.size,
        "width": event.width,
        "height": event.height,
        "durationMs": event.duration_ms,
        "blurhash": event.blurhash,
        "thumbnail": event.thumbnail,
        "available": event.available,
        "error": event.error,
        "at": event.at,
    }
    return Change(conversation_id=event.conversation_id, seq=event.seq, kind=ChangeKind.MEDIA_READY, data=data)
