"""Frames of a live connection as types; their fields on the wire are camelCase, as in docs/wire.md.

What a server adds later is ignored: unknown fields are dropped, and an unknown frame is an ``UnknownFrame``.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from millrace_client.types import Message

Ref: TypeAlias = str | int | None

# ---- frames of the client


class ClientFrame(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of the frames that a client sends. ``ref`` comes back in the frame that answers."""

    ref: Ref = None


class JoinConversation(ClientFrame, frozen=True, tag="join_conversation"):
    """Replay everything after ``after``, then live; without it only what comes from now on. ``epoch`` is that of
    ``after``."""

    id: str
    after: int | None = None
    epoch: str | None = None


class LeaveConversation(ClientFrame, frozen=True, tag="leave_conversation"):
    """End the subscription to a conversation; answered ``left``."""

    id: str


class Ack(ClientFrame, frozen=True, tag="ack"):
    """Report that this device has everything up to ``seq``."""

    conversation_id: str
    seq: int


class Read(ClientFrame, frozen=True, tag="read"):
    """Report that the user has read everything up to ``seq``."""

    conversation_id: str
    seq: int


class SetTyping(ClientFrame, frozen=True, tag="typing"):
    """Report that the user types, or has stopped."""

    conversation_id: str
    is_typing: bool


class RefreshToken(ClientFrame, frozen=True, tag="auth.refresh"):
    """A newer token of the same user; answered ``auth.refreshed``."""

    token: str


class Ping(ClientFrame, frozen=True, tag="ping"):
    """Answered ``pong``."""


# ---- frames of the server


class ServerFrame(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the frames that a server sends."""


class Connected(ServerFrame, frozen=True, tag="connected"):
    """The first frame of a connection."""

    connection_id: str
    user_id: str
    heartbeat_ms: int
    max_frame: int
    expires_at: str
    epoch: str | None = None


class Joined(ServerFrame, frozen=True, tag="joined"):
    """Answers a join: everything up to ``seq`` was sent, and what follows is live.

    ``delivered_seq`` and ``read_seq`` are what the server has stored of this device's receipts.
    """

    id: str
    seq: int
    delivered_seq: int = 0
    read_seq: int = 0
    epoch: str | None = None
    ref: Ref = None


class Reset(ServerFrame, frozen=True, tag="reset"):
    """The server's store went back in time: drop the content above ``start``; what follows replaces it."""

    conversation_id: str
    epoch: str
    start: int = field(name="from")


class Left(ServerFrame, frozen=True, tag="left"):
    """Ends a subscription: answers ``leave_conversation``, or has a ``reason``, ``removed``."""

    id: str
    reason: str | None = None
    ref: Ref = None


class NewMessage(ServerFrame, frozen=True, tag="new_message"):
    """A message, in seq order where the conversation is joined; elsewhere a hint."""

    conversation_id: str
    seq: int
    message: Message


class ConversationUpdated(ServerFrame, frozen=True, tag="conversation_changed"):
    """``member_added``, ``member_removed``, ``member_invited`` or ``invitation_ended``; ``created`` has seq 0."""

    conversation_id: str
    seq: int
    change: str
    user_id: str
    by: str
    at: str
    title: str | UnsetType | None = UNSET


class HistoryHidden(ServerFrame, frozen=True, tag="history_hidden"):
    """Stands for the content after ``start`` up to ``seq``, which is older than the membership and stays hidden."""

    conversation_id: str
    seq: int
    start: int = field(name="from")


class ListChanged(ServerFrame, frozen=True, tag="list_changed"):
    """The user's ``conversations`` or ``invitations`` have changed: read the list again over HTTP."""

    list: str


class MediaReady(ServerFrame, frozen=True, tag="media_ready"):
    """An attachment was inspected. Without ``available`` only its owner gets the file; ``error`` says why."""

    conversation_id: str
    seq: int
    message_id: str
    media_id: str
    media_type: str | None = None
    name: str = ""
    size: int = 0
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    blurhash: str | None = None
    thumbnail: bool = False
    available: bool = True
    error: str | None = None
    at: str | None = None


class StatusUpdated(ServerFrame, frozen=True, tag="message_status"):
    """The watermark of one member; ``message_id`` is there when it is about just one message."""

    conversation_id: str
    seq: int
    user_id: str
    status: str
    delivered_seq: int
    read_seq: int
    at: str
    message_id: str | UnsetType = UNSET


class TypingUpdated(ServerFrame, frozen=True, tag="typing"):
    """A member types, or has stopped to."""

    conversation_id: str
    user_id: str
    is_typing: bool


class PresenceUpdated(ServerFrame, frozen=True, tag="presence"):
    """A user is online or offline; ``last_seen`` is None when nobody knows."""

    user_id: str
    online: bool
    last_seen: str | None = None


class NotificationAdded(ServerFrame, frozen=True, tag="notification"):
    """A notification was stored; its text is read over HTTP."""

    notification_id: str
    conversation_id: str
    message_id: str
    seq: int
    at: str


class Reconnect(ServerFrame, frozen=True, tag="reconnect"):
    """The node ends and closes the connection after this time; connect again then."""

    after_ms: int
    reason: str = ""


class TokenRefreshed(ServerFrame, frozen=True, tag="auth.refreshed"):
    """The connection lives by the new token."""

    expires_at: str
    ref: Ref = None


class Pong(ServerFrame, frozen=True, tag="pong"):
    """Answers ``ping``."""

    ref: Ref = None


class ErrorFrame(ServerFrame, frozen=True, tag="error"):
    """A frame was refused; the codes are those of HTTP."""

    code: str
    detail: str = ""
    ref: Ref = None
    retry_after_ms: int | None = None


class UnknownFrame(Struct, frozen=True):
    """A frame of a newer server."""

    type: str
    fields: dict[str, Any]


KnownFrame: TypeAlias = (
    Connected
    | Joined
    | Reset
    | Left
    | NewMessage
    | ConversationUpdated
    | HistoryHidden
    | ListChanged
    | MediaReady
    | StatusUpdated
    | TypingUpdated
    | PresenceUpdated
    | NotificationAdded
    | Reconnect
    | TokenRefreshed
    | Pong
    | ErrorFrame
)
Frame: TypeAlias = KnownFrame | UnknownFrame
ContentFrame: TypeAlias = NewMessage | ConversationUpdated | MediaReady
"""Frames that have a place in their conversation: their seq."""

_decoder: msgspec.json.Decoder[KnownFrame] = msgspec.json.Decoder(KnownFrame)


def decode_frame(raw: bytes) -> Frame:
    """Return the frame of a server. Raises ValueError for what is not a JSON object with a ``type``."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(raw)
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            raise ValueError("a frame must be a JSON object with a type") from None
        return UnknownFrame(fields["type"], fields)


_PLACE = re.compile(
    rb'\{"type":"(?:new_message|conversation_changed|media_ready)","conversationId":"([^"\\]+)","seq":([1-9]\d*)[,}]'
)


def place_of(raw: bytes) -> tuple[str, int] | None:
    """Return conversation id and seq of a content frame without decoding it.

    None for any other frame, and for one whose fields come in another order, which must be decoded to tell.
    """
    match = _PLACE.match(raw)
    return None if match is None else (match[1].decode(), int(match[2]))
