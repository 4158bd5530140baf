"""Answers of the HTTP API as types; their fields on the wire are camelCase, as in docs/wire.md.

Fields that a server adds later are ignored.
"""

from __future__ import annotations

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """A wrong field of a request: its path, and what was expected."""

    path: str
    message: str


class Problem(Struct, frozen=True):
    """An error answer (RFC 9457)."""

    code: str = ""
    detail: str = ""
    status: int = 0
    outcome: str = ""
    errors: tuple[FieldError, ...] = ()


class Attachment(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file of a message, as it was known when the message was sent. ``type`` is its media type."""

    media_id: str
    name: str
    type: str
    size: int
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    blurhash: str | None = None
    thumbnail: bool = False


class Message(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message. Times are RFC 3339, UTC; ``status`` only moves forward."""

    message_id: str
    conversation_id: str
    seq: int
    sender_id: str
    type: str
    content: str
    attachments: tuple[Attachment, ...] = ()
    reply_to: str | None = None
    created_at: str
    status: str


class MessageAccepted(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to a message that was accepted: it is stored, at this place."""

    message_id: str
    conversation_id: str
    seq: int
    status: str
    created_at: str


class MessagePage(Struct, frozen=True, rename="camel"):
    """Messages of one conversation, ascending by seq."""

    messages: tuple[Message, ...]
    head_seq: int
    has_more: bool
    epoch: str | None = None
    reset_from: int | None = None
    """The ``after`` did not hold: drop what is above this seq; the page begins behind it."""


class ConversationMember(Struct, frozen=True, rename="camel"):
    """A member, and how far their devices have got."""

    user_id: str
    role: str
    delivered_seq: int
    read_seq: int


class ConversationDetails(Struct, frozen=True, rename="camel"):
    """A conversation with its members."""

    conversation_id: str
    title: str | None
    head_seq: int
    members: tuple[ConversationMember, ...]
    invited: tuple[str, ...] = ()


class InvitationEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """An open invitation of the user."""

    conversation_id: str
    title: str | None
    invited_by: str
    member_count: int
    at: str


class InvitationPage(Struct, frozen=True):
    """A user's open invitations, newest first; ``next`` is the cursor of the next page."""

    invitations: tuple[InvitationEntry, ...]
    next: str | None


class ConversationSummary(Struct, frozen=True, rename="camel"):
    """A conversation in the list of a user's. ``unread``: messages after ``my_read_seq``, all by others."""

    conversation_id: str
    title: str | None
    head_seq: int
    unread: int
    last_message: Message | None
    my_read_seq: int
    last_at: str


class UnreadTotal(Struct, frozen=True):
    """Unread messages of a user, and the number of conversations that have any: for a badge."""

    unread: int
    conversations: int


class ConversationPage(Struct, frozen=True):
    """A user's conversations, newest activity first; ``next`` is the cursor of the next page.

    ``total`` is of all conversations, and there on the first page only.
    """

    conversations: tuple[ConversationSummary, ...]
    next: str | None
    total: UnreadTotal | None = None


class MessageReceipt(Struct, frozen=True, rename="camel"):
    """The status of a message with a member."""

    user_id: str
    status: str
    delivered_at: str | None
    read_at: str | None


class MessageReceipts(Struct, frozen=True):
    """The status of a message with each member."""

    receipts: tuple[MessageReceipt, ...]


class SearchHit(Struct, frozen=True):
    """A message that was found; ``highlight`` is escaped HTML with ``<mark>``."""

    message: Message
    highlight: str
    score: float


class SearchPage(Struct, frozen=True):
    """Messages that were found, newest first; ``next`` is the cursor of the next page.

    ``corrected`` are words that the hits have in place of words of the query.
    """

    hits: tuple[SearchHit, ...]
    next: str | None
    corrected: tuple[str, ...] = ()


class NotificationEntry(Struct, frozen=True, rename="camel"):
    """A notification that was stored for the user."""

    notification_id: str
    channel: str
    created_at: str
    seen_at: str | None
    message: Message


class NotificationPage(Struct, frozen=True):
    """A user's notifications, newest first; ``next`` is the cursor of the next page."""

    notifications: tuple[NotificationEntry, ...]
    next: str | None


class TicketIssued(Struct, frozen=True, rename="camel"):
    """Opens one WebSocket within 30 s in place of a token."""

    ticket: str
    expires_at: str


class MediaUrl(Struct, frozen=True, rename="camel"):
    """A URL of a file that needs no token until ``expires_at``, relative to the URL of the API."""

    url: str
    expires_at: str


class Budget(Struct, frozen=True, rename="camel"):
    """What the user may do of one kind: ``limit`` calls at once, of which ``per_minute`` come back. None: no limit."""

    action: str
    limit: int | None = None
    per_minute: float | None = None
    remaining: int | None = None
    reset_seconds: int = 0


class BudgetList(Struct, frozen=True):
    """The budgets of the user."""

    limits: tuple[Budget, ...]


class MinuteMessages(Struct, frozen=True):
    """Number of messages of a minute."""

    minute: str
    messages: int


class ConversationAnalytics(Struct, frozen=True, rename="camel"):
    """Messages per minute of a conversation, newest first."""

    conversation_id: str
    minutes: tuple[MinuteMessages, ...]
