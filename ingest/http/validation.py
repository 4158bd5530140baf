"""What a client may say in ``POST /messages``: decoded strictly, sanitized, bounded. Pure."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Annotated, Literal, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from domain.drafts import Draft
from domain.errors import Invalid
from schemas.ids import is_uuid, new_id

MAX_CONTENT = 4000
MAX_ATTACHMENTS = 10

Key = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
T = TypeVar("T")

# C0 but tab and newline, DEL, and the noncharacters of Unicode.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17))
    + "]"
)


class Body(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The JSON body. The sender comes from the token; seq, status and times are never the client's."""

    conversation_id: str
    type: Literal["text", "image", "video", "audio", "file"]
    content: str = ""
    client_message_id: Key | None = None
    attachments: Annotated[tuple[str, ...], Meta(max_length=MAX_ATTACHMENTS)] = ()
    reply_to: str | None = None


def parse(kind: type[T], raw: bytes) -> T:
    """The body as this type. Raises Invalid, which names the path and never repeats the value."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `")
        what = what.split(", got")[0].split(" value '")[0]
        raise Invalid("the body does not have the form of this call", [(path.rstrip("`") or "$", what)]) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Invalid("the body is not JSON in UTF-8", [("$", "not JSON")]) from exc


def draft(raw: bytes, *, sender_id: str, idempotency_key: str | None) -> Draft:
    """A checked draft from the bytes of a request. Raises Invalid."""
    body = parse(Body, raw)
    content = clean(body.content, "$.content")
    errors = [*_id_errors(body), *_length_errors(content, body)]
    key = body.client_message_id
    if idempotency_key is not None:
        key = _header_key(idempotency_key)
        if body.client_message_id not in (None, key):
            errors.append(("$.clientMessageId", "differs from the Idempotency-Key header"))
    if errors:
        raise Invalid("the message is not valid; see errors", errors)
    return Draft(
        message_id=new_id(),
        conversation_id=body.conversation_id,
        sender_id=sender_id,
        type=body.type,
        content=content,
        attachments=body.attachments,
        reply_to=body.reply_to,
        client_message_id=key,
        body_hash=_hash(body, content),
    )


def clean(text: str, path: str) -> str:
    """NFC; refuses what no text may hold. Raises Invalid."""
    if not text.isprintable() and _FORBIDDEN.search(text):  # the first is fast, and true of most texts
        what = "control characters and noncharacters are not allowed, except tab and newline"
        raise Invalid("the text holds characters that are not allowed", [(path, what)])
    return unicodedata.normalize("NFC", text)


def _header_key(text: str) -> str:
    try:
        return msgspec.convert(text, Key)
    except msgspec.ValidationError as exc:
        raise Invalid("Idempotency-Key is 1-128 visible ASCII characters", [("Idempotency-Key", "form")]) from exc


def _id_errors(body: Body) -> list[tuple[str, str]]:
    given = [("$.conversationId", body.conversation_id)]
    given += [(f"$.attachments[{i}]", id_) for i, id_ in enumerate(body.attachments)]
    if body.reply_to is not None:
        given.append(("$.replyTo", body.reply_to))
    return [(path, "expected a UUID in lower case") for path, id_ in given if not is_uuid(id_)]


def _length_errors(content: str, body: Body) -> list[tuple[str, str]]:
    least = 0 if body.attachments else 1
    if least <= len(content) <= MAX_CONTENT:
        return []
    return [("$.content", f"expected {least} to {MAX_CONTENT} characters")]


def _hash(body: Body, content: str) -> bytes:
    said = [body.conversation_id, body.type, content, body.attachments, body.reply_to]
    return sha256(orjson.dumps(said)).digest()
