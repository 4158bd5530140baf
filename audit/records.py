"""Kafka records in the form that the rules need."""

from __future__ import annotations

from adapters.kafka.consumer import Received
from audit.topic_checks import Seen
from domain.audit import digest
from schemas.codec import Malformed, decode
from schemas.events import (
    AnyEvent,
    MediaProcessed,
    MediaUploaded,
    MessageCreated,
    MessageSent,
    NotificationSent,
    SearchIndexed,
)


def seen(record: Received) -> Seen | None:
    """Return the content of a record; None when it is no event that the audit knows."""
    try:
        return content_of(decode(record.topic, record.key, record.value))
    except Malformed:
        return None


def content_of(event: AnyEvent) -> Seen | None:
    """Return what an event is about; None for a kind that the audit does not compare."""
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
    """Return the id of the message or the upload that a dead letter is about; None when it is about none."""
    origin = dict(letter.headers).get("dlq-origin", b"").partition(b"/")[0].decode(errors="replace")
    try:
        match decode(origin, letter.key, letter.value):
            case MessageCreated(message=message):
                return message.message_id
            case MediaUploaded(media_id=media_id):
                return media_id
            case _:
                return None
    except Malformed:
        return None
