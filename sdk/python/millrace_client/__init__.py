"""Client library of Millrace: sends messages that are stored once, and follows conversations without a gap."""

from millrace_client.client import Client, FrameStream, open_client
from millrace_client.connection import LiveConnection
from millrace_client.cursors import CursorStore, MemoryCursors, SqliteCursors
from millrace_client.errors import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    Invalid,
    MembershipEnded,
    MillraceClientError,
    NotFound,
    ProtocolError,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
)
from millrace_client.frames import (
    ConversationUpdated,
    ErrorFrame,
    Frame,
    HistoryHidden,
    Joined,
    ListChanged,
    MediaReady,
    NewMessage,
    NotificationAdded,
    PresenceUpdated,
    StatusUpdated,
    TypingUpdated,
    decode_frame,
)
from millrace_client.http import HttpClient, Posted, open_http_client
from millrace_client.retries import RetryingTransport, open_http
from millrace_client.subscription import ConnectionListener, Listener, Subscription
from millrace_client.tokens import Token, TokenProvider

__all__ = [
    "Client",
    "Conflict",
    "ConnectionListener",
    "ConversationUpdated",
    "CursorStore",
    "ErrorFrame",
    "Forbidden",
    "Frame",
    "FrameStream",
    "HistoryHidden",
    "HttpClient",
    "IdempotencyMismatch",
    "Invalid",
    "Joined",
    "ListChanged",
    "Listener",
    "LiveConnection",
    "MediaReady",
    "MembershipEnded",
    "MemoryCursors",
    "MillraceClientError",
    "NewMessage",
    "NotFound",
    "NotificationAdded",
    "Posted",
    "PresenceUpdated",
    "ProtocolError",
    "RateLimited",
    "Refused",
    "RetryingTransport",
    "SqliteCursors",
    "StatusUpdated",
    "Subscription",
    "Token",
    "TokenProvider",
    "TypingUpdated",
    "Unauthenticated",
    "Unavailable",
    "decode_frame",
    "open_client",
    "open_http",
    "open_http_client",
]
