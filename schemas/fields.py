"""Types of fields, and the sizes that bound them: the one home of patterns, formats and limits.

A ``Checked…`` type has one form and refuses every other when it is read; what clients send is made of these. Events are
read by older releases too: their fields refuse what no release writes (an id that is no UUID, a seq beyond what JSON
keeps) and take what a later release may write (an unknown kind, a longer text, a user id of other characters).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from msgspec import Meta

from schemas.ids import DEVICE_PATTERN, USER_ID_PATTERN, UUID_PATTERN

MAX_SEQ = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""
MAX_CONTENT = 4000
MAX_ATTACHMENTS = 10
MAX_MEMBERS = 5000
MAX_TITLE = 200
MAX_KEY = 128
MAX_QUERY = 200
MAX_PAGE = 200
MAX_SEARCH_PAGE = 100
MAX_MINUTES = 10_080
"""A week."""
MAX_BODY = 64 * 1024
MAX_UPLOAD = 32 * 1024 * 1024
MAX_FILE_NAME = 255
MAX_MEDIA_TYPE = 127
MAX_BLURHASH = 64

# Bounds of what readers take from a record: wider than what is written, so that a later release may write more.
MAX_RECORD_TEXT = 256 * 1024
MAX_RECORD_WORDS = 1_000
MAX_RECORD_LIST = 10_000

_TIME_PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z\Z"
)

MessageType: TypeAlias = Literal["text", "image", "video", "audio", "file"]
StatusName: TypeAlias = Literal["pending", "sent", "delivered", "read"]
Role: TypeAlias = Literal["owner", "member"]
ChangeName: TypeAlias = Literal["created", "member_added", "member_removed", "member_invited", "invitation_ended"]
FilePart: TypeAlias = Literal["file", "original", "thumbnail"]
"""Part of a file: that which everybody gets, the upload as it came (its owner only), or the thumbnail."""
ListName: TypeAlias = Literal["conversations", "invitations"]
Feature: TypeAlias = Literal["attachment", "link"]
"""Features that a search can ask a message to have."""
Action: TypeAlias = Literal[
    "messages", "requests", "conversations", "members", "uploads", "search", "tickets", "receipts"
]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""Budgets of a user, each with a rate of its own."""
ErrorCode: TypeAlias = Literal[
    "unauthenticated",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "conflict",
    "media_not_ready",
    "media_unavailable",
    "precondition_failed",
    "range_not_satisfiable",
    "payload_too_large",
    "unsupported_media_type",
    "invalid",
    "idempotency_mismatch",
    "rate_limited",
    "quota_exceeded",
    "insufficient_storage",
    "unavailable",
    "internal",
    "bad_request",
    "request_timeout",
    "headers_too_large",
    "http_version_not_supported",
]

KIND_PATTERN = r"^[a-z][a-z0-9_.-]{0,63}\Z"
_ANY_DEVICE_PATTERN = USER_ID_PATTERN


def _kind(*known: str) -> Meta:
    return Meta(pattern=KIND_PATTERN, extra_json_schema={"enum": list(known)})


# Of what the server writes.
Uuid: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "uuid", "pattern": UUID_PATTERN})]
UserId: TypeAlias = Annotated[str, Meta(pattern=USER_ID_PATTERN)]
Device: TypeAlias = Annotated[str, Meta(pattern=_ANY_DEVICE_PATTERN)]
Time: TypeAlias = Annotated[
    str,
    Meta(
        pattern=_TIME_PATTERN,
        description="RFC 3339, UTC, milliseconds",
        extra_json_schema={"format": "date-time"},
    ),
]
Seq: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": MAX_SEQ})]
ChangeSeq: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
"""The place of an entry of a change log; a ``Seq`` may also be 0, before the first entry."""
_EPOCH_PATTERN = r"^[\x21-\x7e]{1,64}\Z"
Epoch: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, description="opaque; compare it, nothing else")]
CheckedEpoch: TypeAlias = Annotated[str, Meta(pattern=_EPOCH_PATTERN, description="opaque; compare it, nothing else")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
TypeText: TypeAlias = Annotated[str, _kind(*get_args(MessageType))]
StatusText: TypeAlias = Annotated[str, _kind(*get_args(StatusName))]
RoleText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Role))})]
ChangeText: TypeAlias = Annotated[str, _kind(*get_args(ChangeName))]
ListText: TypeAlias = Annotated[str, _kind(*get_args(ListName))]
CodeText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(ErrorCode))})]
ActionText: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Action))})]
FileName: TypeAlias = Annotated[str, Meta(max_length=MAX_FILE_NAME)]
MediaTypeText: TypeAlias = Annotated[str, Meta(max_length=MAX_MEDIA_TYPE)]
BlurhashText: TypeAlias = Annotated[str, Meta(max_length=MAX_BLURHASH)]
RecordText: TypeAlias = Annotated[str, Meta(max_length=MAX_RECORD_TEXT)]
RecordWords: TypeAlias = Annotated[str, Meta(max_length=MAX_RECORD_WORDS)]

# Checked: the form that input must have.
CheckedUuid: TypeAlias = Annotated[str, Meta(pattern=UUID_PATTERN, extra_json_schema={"format": "uuid"})]
CheckedUserId: TypeAlias = Annotated[str, Meta(pattern=USER_ID_PATTERN)]
CheckedDevice: TypeAlias = Annotated[str, Meta(pattern=DEVICE_PATTERN)]
CheckedSeq: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
CheckedTitle: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)]
IdempotencyKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_KEY, pattern=r"^[\x21-\x7e]+\Z")]

PATTERN_TEXTS = {
    UUID_PATTERN: "a UUID in lower case",
    USER_ID_PATTERN: "1-255 visible ASCII characters",
    DEVICE_PATTERN: "1-64 characters of A-Z a-z 0-9 _ . : -",
    r"^[\x21-\x7e]+\Z": "1-128 visible ASCII characters",
    _EPOCH_PATTERN: "1-64 visible ASCII characters",
    KIND_PATTERN: "a name in lower case",
    _TIME_PATTERN: "a time in UTC with milliseconds",
}
"""Patterns in words, for errors."""
