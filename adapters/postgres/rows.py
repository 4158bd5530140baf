"""Conversion of rows of the core tables to domain types."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from domain.media import Media
from schemas.clock import wire_time
from schemas.events import MessageCreated
from schemas.messages import Attachment, Change, Message, Status

MESSAGE_COLUMNS = (
    "m.message_id::text, m.conversation_id::text, m.seq, m.sender_id, m.type, m.content, m.attachments::text,"
    " m.reply_to::text, m.created_at, m.status"
)
MEDIA_COLUMNS = (
    "m.media_id::text, m.owner_id, m.file_name, m.declared_type, m.size, m.sha256, l.media_type, l.width, l.height,"
    " l.duration_ms, l.blurhash, coalesce(l.thumbnail, false), coalesce(l.clean, false), l.served, l.error"
)

_MEDIA_FIELDS = [field.name for field in fields(Media)]
_attachments = msgspec.json.Decoder(tuple[Attachment, ...])


def media(row: tuple[Any, ...]) -> Media:
    """Return the Media in a row of MEDIA_COLUMNS."""
    return Media(**dict(zip(_MEDIA_FIELDS, row, strict=True)))


def message(row: tuple[Any, ...]) -> Message:
    """Return the Message in a row of MESSAGE_COLUMNS."""
    created_at: datetime = row[8]
    return Message(
        message_id=row[0],
        conversation_id=row[1],
        seq=row[2],
        sender_id=row[3],
        type=row[4],
        content=row[5],
        attachments=() if row[6] is None else _attachments.decode(row[6]),
        reply_to=row[7],
        created_at=wire_time(created_at),
        status=Status(row[9]).wire,
    )


def created(row: tuple[Any, ...]) -> MessageCreated:
    """Return the event of a message: in a row of MESSAGE_COLUMNS, its key and the hash of its request."""
    *columns, key, body_hash = row
    accepted = msgspec.structs.replace(message(tuple(columns)), status=Status.PENDING.wire)
    return MessageCreated(message=accepted, client_message_id=key, body_hash=bytes(body_hash).hex())


def change(row: tuple[Any, ...]) -> Change:
    """Return the Change in a row: conversation, seq, kind, data, and a message's columns, null for other kinds."""
    conversation_id, seq, kind, data, message_id, *rest = row
    return Change(
        conversation_id=conversation_id,
        seq=seq,
        kind=kind,
        message=message((message_id, conversation_id, seq, *rest)) if message_id else None,
        data=data or {},
    )
