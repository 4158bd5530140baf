"""Types of fields, and the sizes that bound them: the one home of patterns, formats and limits.

A described type (``Uuid``, ``Time`` …) states its form in the exported schema and checks nothing when it is read: a
reader takes what a later release writes. A ``Checked…`` type refuses other input; what clients send is made of these.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from msgspec import Meta

from schemas.ids import USER_ID_PATTERN, UUID_PATTERN

MAX_SEQ = 2**53
"""The largest whole number that every JSON reader keeps exactly."""
MAX_CONTENT = 4000
MAX_ATTACHMENTS = 10
MAX_MEMBERS = 5000
MAX_TITLE = 200
MAX_KEY = 128
MAX_QUERY = 200
MAX_PAGE = 200
MAX_SEARCH_PAGE = 100
MAX_SEARCH_OFFSET = 1000
MAX_MINUTES = 10_080
"""A week."""
MAX_BODY = 64 * 1024
MAX_UPLOAD = 32 * 1024 * 1024

_TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z"

MessageType: TypeAlias = Literal["text", "image", "video", "audio", "file"]
StatusName: TypeAlias = Literal["pending", "sent", "delivered", "read"]
Role: TypeAlias = Literal["owner", "member"]
ErrorCode: TypeAlias = Literal[
    "unauthenticated",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "conflict",
    "payload_too_large",
    "unsupported_media_type",
    "invalid",
    "idempotency_mismatch",
    "rate_limited",
    "unavailable",
    "internal",
    "bad_request",
    "request_timeout",
]

# Described: the form of what the server writes.
Uuid: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "uuid", "pattern": UUID_PATTERN})]
UserId: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": USER_ID_PATTERN})]
Device: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": USER_ID_PATTERN})]
Time: TypeAlias = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC, milliseconds",
        extra_json_schema={"format": "date-time", "pattern": _TIME_PATTERN},
    ),
]
Seq: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": MAX_SEQ})]
Count: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
TypeText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(MessageType))})]
StatusText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(StatusName))})]
RoleText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Role))})]
ChangeText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["created", "member_added", "member_removed"]})]
CodeText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(ErrorCode))})]

# Checked: the form that input must have.
CheckedUuid: TypeAlias = Annotated[str, Meta(pattern=UUID_PATTERN, extra_json_schema={"format": "uuid"})]
CheckedUserId: TypeAlias = Annotated[str, Meta(pattern=USER_ID_PATTERN)]
CheckedDevice: TypeAlias = Annotated[str, Meta(pattern=USER_ID_PATTERN)]
CheckedSeq: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
CheckedTitle: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)]
IdempotencyKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_KEY, pattern=r"^[\x21-\x7e]+\Z")]

PATTERN_TEXTS = {
    UUID_PATTERN: "a UUID in lower case",
    USER_ID_PATTERN: "1-64 characters of A-Z a-z 0-9 _ . : -",
    r"^[\x21-\x7e]+\Z": "1-128 visible ASCII characters",
}
"""Patterns in words, for errors."""
