"""Bodies and query parameters of HTTP calls. A body with an unknown field is refused."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, field

from schemas.fields import (
    MAX_ATTACHMENTS,
    MAX_CONTENT,
    MAX_MEMBERS,
    MAX_MINUTES,
    MAX_PAGE,
    MAX_QUERY,
    MAX_SEARCH_PAGE,
    CheckedDevice,
    CheckedEpoch,
    CheckedSeq,
    CheckedTitle,
    CheckedUserId,
    CheckedUuid,
    Feature,
    FilePart,
    IdempotencyKey,
    MessageType,
)
from schemas.ids import NO_DEVICE

PageSize: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Cursor: TypeAlias = Annotated[str, Meta(description="`next` of the page before; without it the first page")]
Moment: TypeAlias = Annotated[str, Meta(description="RFC 3339", extra_json_schema={"format": "date-time"})]


class NewConversation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A conversation to create. The caller becomes owner and member."""

    conversation_id: CheckedUuid | None = None
    title: CheckedTitle | None = None
    members: Annotated[tuple[CheckedUserId, ...], Meta(max_length=MAX_MEMBERS)] = ()


class NewInvitation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A user to invite."""

    user_id: CheckedUserId


class NewMember(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A user to make a member."""

    user_id: CheckedUserId


class NewMessage(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A message to send. The sender comes from the token; seq, status and times are never the client's."""

    conversation_id: CheckedUuid
    type: MessageType
    content: Annotated[
        str,
        Meta(
            description=f"1 to {MAX_CONTENT} characters, kept as they are but for line ends, which become newlines; may"
            " be blank with attachments. No control characters"
        ),
    ] = ""
    client_message_id: IdempotencyKey | None = None
    attachments: Annotated[tuple[CheckedUuid, ...], Meta(max_length=MAX_ATTACHMENTS)] = ()
    reply_to: CheckedUuid | None = None


class NewReceipt(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A watermark of one device: everything up to there has arrived, or was read. At least one seq from 1."""

    delivered_seq: CheckedSeq = 0
    read_seq: CheckedSeq = 0
    device: CheckedDevice = NO_DEVICE


class SeenUpTo(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A notification; this one and all older ones are seen."""

    up_to: CheckedUuid


class ConversationsQuery(Struct, frozen=True, rename="camel"):
    """Parameters of the list of one's conversations."""

    limit: PageSize = 50
    cursor: Cursor | None = None


class InvitationsQuery(Struct, frozen=True, rename="camel"):
    """Parameters of the list of one's open invitations."""

    limit: PageSize = 50
    cursor: Cursor | None = None


class MessagesQuery(Struct, frozen=True, rename="camel"):
    """Bounds of a page of messages, exclusive. ``epoch`` is that of ``after``: the one of the page or frame before."""

    after: CheckedSeq | None = None
    before: CheckedSeq | None = None
    limit: PageSize = 50
    epoch: CheckedEpoch | None = None


class SearchQuery(Struct, frozen=True, rename="camel"):
    """Words to search for, and bounds of the search."""

    q: Annotated[str, Meta(min_length=1, max_length=MAX_QUERY)]
    conversation_id: CheckedUuid | None = None
    sender: CheckedUserId | None = field(default=None, name="from")
    after: Moment | None = None
    before: Moment | None = None
    type: MessageType | None = None
    has: Feature | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SEARCH_PAGE)] = 50
    cursor: Cursor | None = None


class NotificationsQuery(Struct, frozen=True, rename="camel"):
    """Parameters of the list of one's notifications."""

    unseen: bool = False
    limit: PageSize = 50
    cursor: Cursor | None = None


class MediaQuery(Struct, frozen=True, rename="camel"):
    """Query of a download: `original` asks for the file as its owner has uploaded it, not for the copy."""

    original: bool = False


class MediaUrlQuery(Struct, frozen=True, rename="camel"):
    """Part of a file for which a URL is signed."""

    part: FilePart = "file"


class SignedQuery(Struct, frozen=True, rename="camel"):
    """Parameters of a signed URL, as `POST /media/{id}/url` has given them; ``expires`` in Unix seconds."""

    part: FilePart
    user: CheckedUserId
    expires: CheckedSeq
    signature: Annotated[str, Meta(min_length=1, max_length=64)]


class AnalyticsQuery(Struct, frozen=True, rename="camel"):
    """Bounds of the minutes: ``from`` inclusive, ``to`` exclusive."""

    start: Moment | None = field(default=None, name="from")
    end: Moment | None = field(default=None, name="to")
    limit: Annotated[int, Meta(ge=1, le=MAX_MINUTES)] = 1440
