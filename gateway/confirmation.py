"""Confirmation of records by the store: what is published is the fact that the store has, never the record. Pure.

A record names a fact. One whose fact the store does not have, or has otherwise (another message under that seq,
another user), announces nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from msgspec.structs import replace

from domain.facts import Found, Member, Place, Wanted
from schemas.events import AnyEvent, ConversationChanged, MediaProcessed, MessageSent, MessageStatus, NotificationSent
from schemas.messages import Change, ChangeKind, Status

Fact: TypeAlias = Change | ConversationChanged | MessageStatus | NotificationSent
"""An entry of a change log, a creation, a watermark or a notification, as the store has it."""


def wanted_by(events: Iterable[AnyEvent]) -> Wanted:
    """Return the keys of the facts that the events name."""
    entries, creations, members, messages, notifications = (
        set[Place](),
        set[str](),
        set[Member](),
        set[str](),
        set[str](),
    )
    for event in events:
        match event:
            case ConversationChanged(kind=None):
                creations.add(event.conversation_id)
            case MessageSent(message=message):
                entries.add((message.conversation_id, message.seq))
            case MediaProcessed() | ConversationChanged():
                entries.add((event.conversation_id, event.seq))
            case MessageStatus():
                members.update((event.conversation_id, user) for user in (event.user_id, *event.notify))
                messages.update(_single(event))
            case NotificationSent():
                notifications.add(event.notification_id)
    return Wanted(entries, creations, members, messages, notifications)


def fact_of(event: AnyEvent, found: Found) -> Fact | None:
    """Return the fact that an event names; None where the store has none."""
    match event:
        case ConversationChanged(kind=None):
            return _creation(event, found)
        case MessageSent() | MediaProcessed() | ConversationChanged():
            return _entry(event, found)
        case MessageStatus():
            return _watermark(event, found)
        case NotificationSent():
            notification = found.notifications.get(event.notification_id)
            return notification if notification and notification.user_id == event.user_id else None
    return None


def _entry(event: MessageSent | MediaProcessed | ConversationChanged, found: Found) -> Change | None:
    seq = event.message.seq if isinstance(event, MessageSent) else event.seq
    entry = found.entries.get((event.conversation_id, seq))
    return entry if entry is not None and _is_named(entry, event) else None


def _is_named(entry: Change, event: MessageSent | MediaProcessed | ConversationChanged) -> bool:
    match event:
        case MessageSent(message=message):
            return entry.message is not None and entry.message.message_id == message.message_id
        case MediaProcessed():
            named = (entry.kind, entry.data.get("messageId"), entry.data.get("mediaId"))
            return named == (ChangeKind.MEDIA_READY, event.message_id, event.media_id)
        case ConversationChanged():  # an entry of a later release may be about no user
            return entry.kind == event.change and entry.data.get("userId", event.user_id) == event.user_id


def _creation(event: ConversationChanged, found: Found) -> ConversationChanged | None:
    """Return the creation with its first members and invited users, as far as they are so still."""
    creation = found.creations.get(event.conversation_id)
    if creation is None:
        return None
    members, invited = set(creation.members), set(creation.invited)
    return replace(
        creation,
        members=tuple(user for user in event.members if user in members),
        invited=tuple(user for user in event.invited if user in invited),
    )


def _watermark(event: MessageStatus, found: Found) -> MessageStatus | None:
    """Return the watermark of the store for the members whom it concerns, if it goes as far as the record says.

    So a record that is read again, or late, never takes a client back behind what it was sent; nor does it name a
    message whose status has moved on, by receipts of others.
    """
    id_ = event.conversation_id
    progress = found.members.get((id_, event.user_id))
    if progress is None or event.status not in (Status.DELIVERED.wire, Status.READ.wire):
        return None
    read = event.status == Status.READ.wire
    stored, at = (progress.read_seq, progress.read_at) if read else (progress.delivered_seq, progress.delivered_at)
    if at is None or event.seq > stored:
        return None
    if event.delivered_seq > progress.delivered_seq or event.read_seq > progress.read_seq:
        return None
    named = tuple(message for message in _single(event) if _has_reached(message, event, found))
    notify = tuple(user for user in event.notify if (id_, user) in found.members)
    return replace(
        event,
        at=at,
        seq=stored,
        delivered_seq=progress.delivered_seq,
        read_seq=progress.read_seq,
        message_ids=named,
        notify=notify,
    )


def _has_reached(message_id: str, event: MessageStatus, found: Found) -> bool:
    """Return whether a message of the event's conversation has its status, and not a further one."""
    conversation_id, status = found.messages.get(message_id, ("", Status.PENDING))
    return conversation_id == event.conversation_id and status.wire == event.status


def _single(event: MessageStatus) -> tuple[str, ...]:
    """Return the message that a watermark is about, if it is about just one: no other is told."""
    return event.message_ids if len(event.message_ids) == 1 else ()
