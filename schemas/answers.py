"""Bodies of HTTP answers. Clients must ignore fields that they do not know."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.fields import ActionText, CodeText, Count, Epoch, RoleText, Seq, StatusText, Time, UserId, Uuid
from schemas.messages import Message


class ConversationCreated(Struct, frozen=True, kw_only=True, rename="camel"):
    """A new conversation."""

    conversation_id: Uuid
    title: str | None
    members: tuple[UserId, ...]
    head_seq: Seq
    invited: Annotated[tuple[UserId, ...], Meta(description="users who must accept first")] = ()


class ConversationSummary(Struct, frozen=True, kw_only=True, rename="camel"):
    """A line in the list of one's conversations."""

    conversation_id: Uuid
    title: str | None
    head_seq: Seq
    unread: Annotated[Count, Meta(description="messages after `myReadSeq`; all are by others")]
    last_message: Message | None
    my_read_seq: Annotated[Seq, Meta(description="the caller has read up to here, has answered, or joined after it")]
    last_at: Time


class UnreadTotal(Struct, frozen=True, kw_only=True, rename="camel"):
    """Unread messages of all of the caller's conversations: for a badge."""

    unread: Annotated[Count, Meta(description="messages")]
    conversations: Annotated[Count, Meta(description="conversations with unread messages")]


class ConversationPage(Struct, frozen=True, kw_only=True, rename="camel"):
    """The caller's conversations, newest activity first."""

    conversations: tuple[ConversationSummary, ...]
    next: str | None
    total: Annotated[UnreadTotal | None, Meta(description="on the first page; null on those that follow")]


class ConversationMember(Struct, frozen=True, kw_only=True, rename="camel"):
    """A member and the watermarks."""

    user_id: UserId
    role: RoleText
    delivered_seq: Seq
    read_seq: Seq


class ConversationDetails(Struct, frozen=True, kw_only=True, rename="camel"):
    """A conversation as a member sees it."""

    conversation_id: Uuid
    title: str | None
    head_seq: Seq
    members: tuple[ConversationMember, ...]
    invited: Annotated[tuple[UserId, ...], Meta(description="users whose invitations are open")] = ()


class InvitationEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """An open invitation of the caller: all that a user learns of a conversation before accepting."""

    conversation_id: Uuid
    title: str | None
    invited_by: UserId
    member_count: Count
    at: Time


class InvitationPage(Struct, frozen=True, kw_only=True, rename="camel"):
    """The caller's open invitations, newest first."""

    invitations: tuple[InvitationEntry, ...]
    next: str | None


class MessageAccepted(Struct, frozen=True, kw_only=True, rename="camel"):
    """The place of a message that is stored for good."""

    message_id: Uuid
    conversation_id: Uuid
    seq: Seq
    status: Literal["sent"] = "sent"
    created_at: Time


class MessagePage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Messages of one conversation, by ascending seq."""

    messages: tuple[Message, ...]
    head_seq: Seq
    has_more: bool
    epoch: Epoch
    reset_from: Annotated[
        Seq | None,
        Meta(description="`after` did not hold: drop what is above this seq; the page begins behind it"),
    ] = None


class MessageReceipt(Struct, frozen=True, kw_only=True, rename="camel"):
    """The status of one message with one member. Times are of the watermark that covered it last."""

    user_id: UserId
    status: StatusText
    delivered_at: Time | None
    read_at: Time | None


class MessageReceipts(Struct, frozen=True, kw_only=True, rename="camel"):
    """The status of one message with each other member."""

    receipts: tuple[MessageReceipt, ...]


class SearchHit(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message that was found."""

    message: Message
    highlight: Annotated[str, Meta(description="escaped HTML with `<mark>`")]
    score: Annotated[float, Meta(description="share of the words of the message that were found")]


class SearchPage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Hits, newest first."""

    hits: tuple[SearchHit, ...]
    next: str | None
    corrected: Annotated[
        tuple[str, ...],
        Meta(description="words that the hits have in place of words of the query, when few messages have those"),
    ] = ()


class NotificationEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """A notification of the caller."""

    notification_id: Uuid
    channel: str
    created_at: Time
    seen_at: Time | None
    message: Message


class NotificationPage(Struct, frozen=True, kw_only=True, rename="camel"):
    """The caller's notifications, newest first."""

    notifications: tuple[NotificationEntry, ...]
    next: str | None


class MinuteMessages(Struct, frozen=True, kw_only=True, rename="camel"):
    """The messages of one minute."""

    minute: Time
    messages: Count


class ConversationAnalytics(Struct, frozen=True, kw_only=True, rename="camel"):
    """Messages of one conversation by minute, newest first."""

    conversation_id: Uuid
    minutes: tuple[MinuteMessages, ...]


class TicketIssued(Struct, frozen=True, kw_only=True, rename="camel"):
    """A ticket that opens one WebSocket."""

    ticket: str
    expires_at: Time


class MediaUrl(Struct, frozen=True, kw_only=True, rename="camel"):
    """A URL that needs no token, for a while."""

    url: Annotated[str, Meta(description="relative to the URL of the API")]
    expires_at: Time


class Budget(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the caller may do of one kind. All but `action` and `resetSeconds` are null when it has no limit."""

    action: ActionText
    limit: Annotated[Count | None, Meta(description="calls at once, when nothing was taken for a while")]
    per_minute: Annotated[float | None, Meta(description="calls that come back")]
    remaining: Annotated[Count | None, Meta(description="calls that are left now")]
    reset_seconds: Annotated[Count, Meta(description="until all are back, if nothing is taken meanwhile")]


class BudgetList(Struct, frozen=True, kw_only=True, rename="camel"):
    """The caller's budgets."""

    limits: tuple[Budget, ...]


class FieldError(Struct, frozen=True, kw_only=True, rename="camel"):
    """A field that is wrong: `$.name` in the body, `?name` in the query, else the name of a header."""

    path: str
    message: str


class Problem(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An error, RFC 9457."""

    type: Annotated[str, Meta(description="urn:millrace:problem: and the code")]
    title: str
    status: Annotated[int, Meta(extra_json_schema={"minimum": 400, "maximum": 599})]
    detail: str
    code: CodeText
    errors: tuple[FieldError, ...] | UnsetType = UNSET
    outcome: (
        Annotated[Literal["unknown"], Meta(description="it may have happened: repeat with the same key")] | UnsetType
    ) = UNSET
