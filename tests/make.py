"""Builders: a test names what it is about, these supply the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from adapters.memory.log import MemoryLog
from domain.drafts import Draft
from domain.media import Media
from ingest.http.params import parse
from ingest.http.validation import draft as draft_of
from schemas.calls import NewMessage
from schemas.codec import Record
from schemas.events import ConversationChanged, MessageCreated, MessageSent
from schemas.ids import new_id
from schemas.messages import Attachment, Message

ROOM = "01900000-0000-7000-8000-000000000001"
AT = "2026-11-24T15:00:00.000Z"


def attachment(media_id: str, **changes: Any) -> Attachment:
    return Attachment(media_id=media_id, **{"name": "a.png", "type": "image/png", "size": 3, **changes})


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


def message(*, attachments: Sequence[str] = (), **changes: Any) -> Message:
    fields = {
        "message_id": new_id(),
        "conversation_id": ROOM,
        "seq": 1,
        "sender_id": "alice",
        "type": "text",
        "content": "hi",
        "created_at": AT,
        "status": "pending",
    }
    return Message(attachments=tuple(map(attachment, attachments)), **{**fields, **changes})


def created(**changes: Any) -> MessageCreated:
    return MessageCreated(message=message(**changes))


def created_of(stored: Message) -> MessageCreated:
    return MessageCreated(message=stored)


def elsewhere(event: Any, conversation_id: str) -> Any:
    """The event of a message or of a conversation, as one of another conversation and with ids of its own."""
    if isinstance(event, MessageCreated):
        message = replace(event.message, conversation_id=conversation_id, message_id=new_id())
        return replace(event, message=message)
    return replace(event, conversation_id=conversation_id)


def sent(**changes: Any) -> MessageSent:
    return MessageSent(message=message(**{"status": "sent", **changes}), sent_at=AT)


def member_added(seq: int, user_id: str = "carol", **changes: Any) -> ConversationChanged:
    fields = {"conversation_id": ROOM, "change": "member_added", "by": "alice", "at": AT}
    return ConversationChanged(seq=seq, user_id=user_id, **{**fields, **changes})


def draft(content: str = "hi", *, sender: str = "alice", key: str | None = None, **body: Any) -> Draft:
    raw = orjson.dumps({"conversationId": ROOM, "type": "text", "content": content, **body})
    return draft_of(parse(NewMessage, raw), sender_id=sender, idempotency_key=key)


def done(part: Sequence[object], result: object) -> None:
    """For those who acknowledge nothing."""


class Noted(MemoryLog):
    """A log that knows how many records each append brought."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[int] = []

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        self.appended.append(len(records))
        return await super().append(records)
