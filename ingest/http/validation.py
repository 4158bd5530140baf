"""Rules of texts and messages that types cannot state. Pure."""

from __future__ import annotations

from hashlib import sha256

import orjson

from domain.drafts import Draft
from domain.text import clean_line, clean_text, comparable, is_blank
from ingest.http.params import wrong
from schemas.calls import NewMessage
from schemas.fields import MAX_CONTENT, MAX_TITLE
from schemas.ids import new_id


def draft(message: NewMessage, *, sender_id: str, idempotency_key: str | None) -> Draft:
    """Return a checked draft with an id of its own. Raises Invalid."""
    content = clean_text(message.content, "$.content")
    if len(content) > MAX_CONTENT:
        raise wrong("$.content", f"must have at most {MAX_CONTENT} characters")
    if not message.attachments and is_blank(content):
        raise wrong("$.content", f"must have 1 to {MAX_CONTENT} characters, one of which is visible")
    return Draft(
        message_id=new_id(),
        conversation_id=message.conversation_id,
        sender_id=sender_id,
        type=message.type,
        content=content,
        attachments=message.attachments,
        reply_to=message.reply_to,
        client_message_id=_key(message.client_message_id, idempotency_key),
        body_hash=_hash(message, content),
    )


def title_of(text: str) -> str:
    """Return the title of a conversation as it is stored: one line with something visible. Raises Invalid."""
    title = clean_line(text, "$.title")
    if is_blank(title):
        raise wrong("$.title", f"must have 1 to {MAX_TITLE} visible characters")
    return title


def _key(in_body: str | None, in_header: str | None) -> str | None:
    if in_header is None:
        return in_body
    if in_body not in (None, in_header):
        raise wrong("$.clientMessageId", "must be the same as the header Idempotency-Key")
    return in_header


def _hash(message: NewMessage, content: str) -> bytes:
    parts = [message.conversation_id, message.type, comparable(content), message.attachments, message.reply_to]
    return sha256(orjson.dumps(parts)).digest()
