"""Kafka records as the rules see them."""

from __future__ import annotations

from adapters.kafka.consumer import Received
from audit.topic_checks import CREATED, Seen
from domain.audit import digest
from schemas.codec import Malformed, decode
from schemas.events import AnyEvent, MediaProcessed, MessageCreated, MessageSent, NotificationSent, SearchIndexed


def seen(record: Received) -> Seen | None:
    """What it says; None when that is nothing of ours."""
    try:
        return _seen(decode(record.topic, record.value))
    except Malformed:
        return None


def _seen(event: AnyEvent) -> Seen | None:
    match event:
        case MessageCreated(message=m) | MessageSent(message=m):
            return Seen(m.message_id, m.message_id, m.conversation_id, m.seq, digest(m))
        case SearchIndexed():
            return Seen(event.message_id, event.message_id, event.conversation_id, event.seq)
        case NotificationSent():
            return Seen(event.notification_id, event.message_id, event.conversation_id, event.seq)
        case MediaProcessed():
            id_ = f"{event.message_id}:{event.media_id}"
            return Seen(id_, event.message_id, event.conversation_id, event.seq)
        case _:
            return None


def set_aside(letter: Received) -> str | None:
    """The message that a dead letter was about; None when it was about none, or cannot be read."""
    origin = dict(letter.headers).get("dlq-origin", b"").partition(b"/")[0].decode(errors="replace")
    if origin != CREATED:
        return None
    try:
        event = decode(CREATED, letter.value)
    except Malformed:
        return None
    return event.message.message_id if isinstance(event, MessageCreated) else None
