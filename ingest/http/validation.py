"""Rules of texts and messages that types cannot state. Pure."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

import msgspec
import orjson

from domain.drafts import Draft
from ingest.http.params import wrong
from schemas.calls import NewMessage
from schemas.fields import MAX_CONTENT, MAX_TITLE, IdempotencyKey
from schemas.ids import new_id

# C0 but tab and newline, DEL, and the noncharacters of Unicode.
_NONCHARACTERS = "\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17)
)
_FORBIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f{_NONCHARACTERS}]")
_SPACES = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")
_NOT_IN_TITLES = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb" + _NONCHARACTERS + "]"
)
"""C0 and C1, the controls of bidirectional text, byte order marks, annotations, noncharacters. Joiners stay: emoji and
several scripts need them."""
_INVISIBLE = re.compile("[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2064\u2800\u3164\uffa0]|\\s")


def draft(message: NewMessage, *, sender_id: str, idempotency_key: str | None) -> Draft:
    """Return a checked draft with an id of its own. Raises Invalid."""
    content = clean(message.content, "$.content")
    least = 0 if message.attachments else 1
    if not least <= len(content) <= MAX_CONTENT:
        raise wrong("$.content", f"must have {least} to {MAX_CONTENT} characters")
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


def clean(text: str, path: str) -> str:
    """Return the text in NFC; refuse what no text may hold. Raises Invalid."""
    if not text.isprintable() and _FORBIDDEN.search(text):  # the first is fast, and true of most texts
        raise wrong(path, "must not hold control characters or noncharacters, except tab and newline")
    return unicodedata.normalize("NFC", text)


def clean_title(title: str, path: str) -> str:
    """Return the title of a conversation in NFC and in one line, without control and direction-changing characters.

    They are removed and not refused, since people paste them unseen. Raises Invalid when nothing visible is left.
    """
    text = unicodedata.normalize("NFC", " ".join(_NOT_IN_TITLES.sub("", _SPACES.sub(" ", title)).split()))
    if not _INVISIBLE.sub("", text):
        raise wrong(path, f"must have 1 to {MAX_TITLE} visible characters")
    return text


def idempotency_key(in_header: str | None) -> str | None:
    """Return the key of the header ``Idempotency-Key``; None without one. Raises Invalid."""
    if in_header is None:
        return None
    try:
        return msgspec.convert(in_header, IdempotencyKey)
    except msgspec.ValidationError as exc:
        raise wrong("Idempotency-Key", "must be 1-128 visible ASCII characters") from exc


def _key(in_body: str | None, in_header: str | None) -> str | None:
    key = idempotency_key(in_header)
    if key is None:
        return in_body
    if in_body not in (None, key):
        raise wrong("$.clientMessageId", "must be the same as the header Idempotency-Key")
    return key


def _hash(message: NewMessage, content: str) -> bytes:
    parts = [message.conversation_id, message.type, content, message.attachments, message.reply_to]
    return sha256(orjson.dumps(parts)).digest()
