"""One socket's protocol: frames in, decisions out. No I/O.

A client frame becomes an Effect for the server to carry out, or an ``error`` frame. One bad frame is an error;
ten of them in short time end the connection, while one a minute never does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from domain.errors import Invalid, MillraceError, NotFound, RateLimited
from gateway.limits import BURST_S, Bucket, Limits
from schemas.frames import frame

MAX_FRAME = 64 * 1024
BAD_FRAMES, BAD_FRAMES_PER_S = 10, 1 / 60

Seq = Annotated[int, Meta(ge=0, le=2**53)]
Ref = Annotated[str, Meta(max_length=128)] | int | None


class Join(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="join_conversation"):
    """Subscribe; replay everything after ``after``, or only what comes from now on."""

    id: str
    after: Seq | None = None
    ref: Ref = None


class Leave(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="leave_conversation"):
    """Unsubscribe."""

    id: str
    ref: Ref = None


class Ack(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="ack"):
    """This device has everything up to a seq, or up to a message."""

    conversation_id: str | None = None
    seq: Seq | None = None
    message_id: str | None = None
    ref: Ref = None


class Read(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="read"):
    """The user has read everything up to a seq, or up to a message."""

    conversation_id: str | None = None
    seq: Seq | None = None
    message_id: str | None = None
    ref: Ref = None


class Typing(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="typing"):
    """The user types, or has stopped to."""

    is_typing: bool
    conversation_id: str | None = None
    ref: Ref = None


class Refresh(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="auth.refresh"):
    """A newer token for the same user."""

    token: str
    ref: Ref = None


class Ping(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="ping"):
    """Is anybody there?"""

    ref: Ref = None


Command: TypeAlias = Join | Leave | Ack | Read | Typing | Refresh | Ping


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with this code."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """Send this frame."""

    payload: bytes


Effect: TypeAlias = Join | Leave | Ack | Read | Typing | Refresh | Say | Close

BAD_FRAME = Close(4400, "too many frames that are not of this protocol")
TOKEN_ENDED = Close(4401, "the token is missing, malformed or has ended")
REVOKED = Close(4401, "the token was revoked")
UNAVAILABLE = Close(1013, "try again later")
TOO_SLOW = Close(4408, "the client takes nothing")
TOO_MANY = Close(4429, "too many frames")
RESTART = Close(1012, "the server restarts")
BY_OPERATOR = Close(4410, "closed by an operator")

_decoder = msgspec.json.Decoder(Command)


@dataclass(slots=True)
class Session:
    """The state of one connection. ``joined``: a view of the conversations that it has a place in now."""

    user_id: str
    joined: Collection[str]
    limits: Limits = field(default_factory=Limits)
    _bad: Bucket = field(init=False)
    _frames: Bucket = field(init=False)
    _joins: Bucket = field(init=False)
    _warned: bool = False

    def __post_init__(self) -> None:
        rate, joins = self.limits.frames_per_s, self.limits.joins_per_s
        self._bad = Bucket(BAD_FRAMES_PER_S, BAD_FRAMES - 1)
        self._frames = Bucket(rate, max(1.0, rate * BURST_S))
        self._joins = Bucket(joins, max(self.limits.max_joined, joins * BURST_S))  # all of them after a reconnect

    def receive(self, raw: str | bytes, now: float) -> Effect:
        """What a frame asks for, checked as far as can be without I/O."""
        if not self._frames.take(now):
            if self._warned:
                return TOO_MANY
            self._warned = True
            rate = self.limits.frames_per_s
            return Say(error(RateLimited(f"too many frames; send at most {rate:g} a second", 1.0), None))
        self._warned = False
        try:
            command = _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            return Say(error(Invalid(_described(exc)), _ref(raw))) if self._bad.take(now) else BAD_FRAME
        try:
            return self._checked(command, now)
        except MillraceError as exc:
            return Say(error(exc, command.ref))

    def _checked(self, command: Command, now: float) -> Effect:
        match command:
            case Ping(ref=ref):
                return Say(frame("pong", ref=ref))
            case Join():
                return self._join(command, now)
            case Leave(id=id_) if id_ not in self.joined:
                raise NotFound("this conversation is not joined")
            case Ack() | Read():
                return self._receipt(command)
            case Typing():
                return self._typing(command)
            case _:
                return command

    def _join(self, command: Join, now: float) -> Join:
        most = self.limits.max_joined
        if most and command.id not in self.joined and len(self.joined) >= most:
            raise RateLimited(f"a socket joins at most {most} conversations; leave one first", 0)
        if not self._joins.take(now):
            raise RateLimited(f"join at most {self.limits.joins_per_s:g} conversations a second", 1.0)
        return command

    def _receipt(self, command: Ack | Read) -> Effect:
        if (command.seq is None) == (command.message_id is None):
            raise Invalid("give either conversationId and seq, or messageId")
        if command.seq is not None and command.conversation_id is None:
            raise Invalid("give conversationId with seq")
        if command.conversation_id is not None:
            self._must_be_joined(command.conversation_id)
        elif not self.joined:
            raise NotFound("no conversation is joined")
        return command

    def _typing(self, command: Typing) -> Effect:
        if command.conversation_id is None:
            if len(self.joined) != 1:
                raise Invalid("give conversationId: not exactly one conversation is joined")
            return Typing(command.is_typing, next(iter(self.joined)), command.ref)
        self._must_be_joined(command.conversation_id)
        return command

    def _must_be_joined(self, conversation_id: str) -> None:
        if conversation_id not in self.joined:
            raise NotFound("this conversation is not joined; send join_conversation first")


def error(exc: MillraceError, ref: Ref) -> bytes:
    """An ``error`` frame with the same code that HTTP would give."""
    more = {"retryAfterMs": int(exc.retry_after_s * 1000)} if isinstance(exc, RateLimited) else {}
    return frame("error", code=exc.code, detail=str(exc), ref=ref, **more)


def _described(exc: Exception) -> str:
    if not isinstance(exc, msgspec.ValidationError):
        return "the frame is not a JSON object"
    text = str(exc).split(" value '")[0].split(", got")[0].split("Invalid value")[0] or "unknown type"
    return f"the frame is not of this protocol: {text[:150]}"


class _Any(Struct):
    """Any frame."""

    ref: Ref = None


def _ref(raw: str | bytes) -> Ref:
    """The ``ref`` of a frame that is otherwise wrong, so that the client knows which one it was."""
    try:
        return msgspec.json.decode(raw, type=_Any).ref
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
