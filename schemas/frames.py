"""Frames that the server sends on a socket. Each is encoded once and shared by all sockets that get it.

Clients ignore fields and types that they do not know.
"""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from schemas.commands import Ref
from schemas.events import ConversationChanged, MessageStatus, NotificationSent
from schemas.fields import ChangeText, CodeText, Count, Epoch, ListName, ListText, Seq, StatusText, Time, UserId, Uuid
from schemas.messages import Change, ChangeKind, Message

OptionalRef = Ref | UnsetType
"""The ``ref`` of the command that the frame answers; left out when it had none."""


class Connected(Struct, frozen=True, kw_only=True, rename="camel", tag="connected"):
    """The first frame of every connection."""

    connection_id: str
    user_id: UserId
    heartbeat_ms: Count
    max_frame: Count
    expires_at: Time
    epoch: Epoch | UnsetType = UNSET


class Joined(Struct, frozen=True, kw_only=True, rename="camel", tag="joined"):
    """Everything up to ``seq`` was sent; what follows is live.

    ``delivered_seq`` and ``read_seq`` are stored for the device: a client repeats receipts that go further.
    """

    id: Uuid
    seq: Seq
    delivered_seq: Seq
    read_seq: Seq
    epoch: Epoch
    ref: OptionalRef = UNSET


class Reset(Struct, frozen=True, kw_only=True, rename="camel", tag="reset"):
    """The cursor begins anew behind ``from``, in this epoch: drop what is above it; what follows replaces it."""

    conversation_id: Uuid
    epoch: Epoch
    start: Seq = field(name="from")


class Left(Struct, frozen=True, kw_only=True, rename="camel", tag="left"):
    """The socket follows the conversation no more: the client left it, or ``reason`` says why ("removed")."""

    id: Uuid
    reason: str | UnsetType = UNSET
    ref: OptionalRef = UNSET


class NewMessage(Struct, frozen=True, kw_only=True, rename="camel", tag="new_message"):
    """A message: in seq order where the conversation is joined, elsewhere a hint."""

    conversation_id: Uuid
    seq: Seq
    message: Message


class ConversationUpdated(Struct, frozen=True, kw_only=True, rename="camel", tag="conversation_changed"):
    """A member came, went, or was invited; ``created`` (seq 0) to the first members."""

    conversation_id: Uuid
    seq: Seq
    change: ChangeText
    user_id: UserId
    by: UserId
    at: Time
    title: str | UnsetType | None = UNSET
    """With ``created`` only."""


class HistoryHidden(Struct, frozen=True, kw_only=True, rename="camel", tag="history_hidden"):
    """Stands for the entries after ``from`` up to ``seq``, which are older than the membership and not for its user."""

    conversation_id: Uuid
    seq: Seq
    start: Seq = field(name="from")


class ListChanged(Struct, frozen=True, kw_only=True, rename="camel", tag="list_changed"):
    """A list of the user has changed, perhaps more than once: read it again over HTTP."""

    list: ListText


class MediaReady(Struct, frozen=True, kw_only=True, rename="camel", tag="media_ready"):
    """An attachment was inspected: its true type, and what is known of it."""

    conversation_id: Uuid
    seq: Seq
    message_id: Uuid
    media_id: Uuid
    media_type: str
    name: str
    size: Count
    width: Count | None
    height: Count | None
    duration_ms: Count | None
    blurhash: str | None
    thumbnail: bool
    available: bool
    error: str | None
    at: Time


class StatusUpdated(Struct, frozen=True, kw_only=True, rename="camel", tag="message_status"):
    """The watermark of one member; ``message_id`` when it is about just one message."""

    conversation_id: Uuid
    seq: Seq
    user_id: UserId
    status: StatusText
    delivered_seq: Seq
    read_seq: Seq
    at: Time
    message_id: Uuid | UnsetType = UNSET


class NotificationAdded(Struct, frozen=True, kw_only=True, rename="camel", tag="notification"):
    """An in-app notification was stored; its text is fetched over HTTP."""

    notification_id: Uuid
    conversation_id: Uuid
    message_id: Uuid
    seq: Seq
    at: Time


class TypingUpdated(Struct, frozen=True, kw_only=True, rename="camel", tag="typing"):
    """A member types, or has stopped."""

    conversation_id: Uuid
    user_id: UserId
    is_typing: bool


class PresenceUpdated(Struct, frozen=True, kw_only=True, rename="camel", tag="presence"):
    """A user came online or went offline. ``last_seen`` is null when nobody knows it."""

    user_id: UserId
    online: bool
    last_seen: Time | None


class TokenRefreshed(Struct, frozen=True, kw_only=True, rename="camel", tag="auth.refreshed"):
    """The connection lives by the new token until ``expires_at``."""

    expires_at: Time
    ref: OptionalRef = UNSET


class Pong(Struct, frozen=True, kw_only=True, rename="camel", tag="pong"):
    """The answer to ``ping``."""

    ref: OptionalRef = UNSET


class Reconnect(Struct, frozen=True, kw_only=True, rename="camel", tag="reconnect"):
    """The node ends, and closes this socket after that time; connect again then, or before."""

    after_ms: Count
    reason: str


class Error(Struct, frozen=True, kw_only=True, rename="camel", tag="error"):
    """A command was refused, or the connection is; ``code`` and ``detail`` as over HTTP."""

    code: CodeText
    detail: str
    ref: OptionalRef = UNSET
    retry_after_ms: Count | UnsetType = UNSET


Frame: TypeAlias = (
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
    | NotificationAdded
    | TypingUpdated
    | PresenceUpdated
    | TokenRefreshed
    | Pong
    | Reconnect
    | Error
)

FRAMES: tuple[type[Frame], ...] = get_args(Frame)

_encoder = msgspec.json.Encoder()
_MEMBERSHIP = (
    ChangeKind.MEMBER_ADDED,
    ChangeKind.MEMBER_REMOVED,
    ChangeKind.MEMBER_INVITED,
    ChangeKind.INVITATION_ENDED,
)


def encoded(frame: Frame) -> bytes:
    """Return the frame as JSON text."""
    return _encoder.encode(frame)


def answering(ref: Ref) -> OptionalRef:
    """Return the ``ref`` of an answer to a command that may have had none."""
    return UNSET if ref is None else ref


def new_message(message: Message) -> bytes:
    """Return the encoded ``new_message``: the same bytes live and replayed from the store."""
    return encoded(NewMessage(conversation_id=message.conversation_id, seq=message.seq, message=message))


def of_change(change: Change) -> bytes:
    """Return the encoded frame of an entry of the change log: the same bytes live and replayed.

    An entry of a kind that this release does not know passes through with its fields: it moves the clients' cursors.
    """
    if change.message is not None:
        return new_message(change.message)
    fields: dict[str, Any] = {**change.data, "conversationId": change.conversation_id, "seq": change.seq}
    if change.kind == ChangeKind.MEDIA_READY:
        return encoded(msgspec.convert(fields, MediaReady))
    fields["change"] = change.kind
    if change.kind in _MEMBERSHIP:
        return encoded(msgspec.convert(fields, ConversationUpdated))
    placed = {"conversationId": change.conversation_id, "seq": change.seq}  # in front, as in every frame with a place
    return _encoder.encode({"type": "conversation_changed", **placed, **fields})


def history_hidden(conversation_id: str, after: int, up_to: int) -> bytes:
    """Return the encoded ``history_hidden`` in place of the entries with ``after < seq <= up_to``."""
    return encoded(HistoryHidden(conversation_id=conversation_id, start=after, seq=up_to))


def list_changed(name: ListName) -> bytes:
    """Return the encoded ``list_changed`` of one of the user's lists."""
    return encoded(ListChanged(list=name))


def conversation_created(event: ConversationChanged) -> bytes:
    """Return the encoded ``conversation_changed`` of a creation, which has no entry in the change log."""
    frame = ConversationUpdated(
        conversation_id=event.conversation_id,
        seq=event.seq,
        change=event.change,
        user_id=event.user_id,
        by=event.by,
        at=event.at,
        title=event.title,
    )
    return encoded(frame)


def message_status(event: MessageStatus) -> bytes:
    """Return the encoded ``message_status`` of a watermark that moved."""
    frame = StatusUpdated(
        conversation_id=event.conversation_id,
        seq=event.seq,
        user_id=event.user_id,
        status=event.status,
        delivered_seq=event.delivered_seq,
        read_seq=event.read_seq,
        at=event.at,
        message_id=event.message_ids[0] if len(event.message_ids) == 1 else UNSET,
    )
    return encoded(frame)


def notification(event: NotificationSent) -> bytes:
    """Return the encoded ``notification`` of a notification that was stored."""
    frame = NotificationAdded(
        notification_id=event.notification_id,
        conversation_id=event.conversation_id,
        message_id=event.message_id,
        seq=event.seq,
        at=event.at,
    )
    return encoded(frame)
