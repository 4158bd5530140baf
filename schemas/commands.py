"""Frames that a client sends on its socket: each a command with its fields, checked strictly.

An id that is no UUID is not malformed: it names nothing, and is answered like any other unknown one.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from schemas.fields import MAX_SEQ, CheckedEpoch, CheckedSeq, Uuid

MAX_FRAME = 64 * 1024
"""Bytes of one frame."""

Ref = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-MAX_SEQ, le=MAX_SEQ)] | None
"""Chosen by the client; whatever answers the command carries it."""


class JoinConversation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="join_conversation"):
    """Subscribe to a conversation: replay everything after ``after``, or only follow what comes from now on.

    ``epoch`` is that of ``after``: the one of the last ``joined`` or ``reset``.
    """

    id: Uuid
    after: CheckedSeq | None = None
    ref: Ref = None
    epoch: CheckedEpoch | None = None


class LeaveConversation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="leave_conversation"):
    """Unsubscribe from a conversation."""

    id: Uuid
    ref: Ref = None


class Ack(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="ack"):
    """Record that this device has everything up to a seq, or up to a message."""

    conversation_id: Uuid | None = None
    seq: CheckedSeq | None = None
    message_id: Uuid | None = None
    ref: Ref = None


class Read(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="read"):
    """Record that the user has read everything up to a seq, or up to a message."""

    conversation_id: Uuid | None = None
    seq: CheckedSeq | None = None
    message_id: Uuid | None = None
    ref: Ref = None


class Typing(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="typing"):
    """Tell the others that the user types, or has stopped."""

    is_typing: bool
    conversation_id: Uuid | None = None
    ref: Ref = None


class RefreshToken(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="auth.refresh"):
    """Replace the token of this connection by a newer one of the same user."""

    token: str
    ref: Ref = None


class Ping(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="ping"):
    """Ask for a ``pong``."""

    ref: Ref = None


Command: TypeAlias = JoinConversation | LeaveConversation | Ack | Read | Typing | RefreshToken | Ping

COMMANDS: tuple[type[Command], ...] = (
    JoinConversation,
    LeaveConversation,
    Ack,
    Read,
    Typing,
    RefreshToken,
    Ping,
)
