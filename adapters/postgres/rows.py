"""Conversion of rows of the core tables to domain types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.clock import wire_time
from schemas.messages import Change, Message, Status

MESSAGE_COLUMNS = (
    "m.message_id::text, m.conversation_id::text, m.seq, m.sender_id, m.type, m.content, m.attachments,"
    " m.reply_to::text, m.created_at, m.status"
)


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
        attachments=tuple(row[6]),
        reply_to=row[7],
        created_at=wire_time(created_at),
        status=Status(row[9]).wire,
    )


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
